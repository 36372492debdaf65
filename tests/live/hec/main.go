// A Splunk HTTP Event Collector that was not written here: the OpenTelemetry Collector's receiver `splunkhec`, with
// nothing behind it but a file.
//
//	hec ADDRESS FILE
//
// Each event becomes a line of JSON with its metadata and fields. The receiver answers only after the lines of a request
// have been written, so that what it has accepted survives a kill of this process.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os"
	"sync"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/splunkhecreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
)

type event struct {
	Event    any            `json:"event"`
	Time     int64          `json:"time"`
	Metadata map[string]any `json:"metadata"`
	Fields   map[string]any `json:"fields"`
}

func lines(logs plog.Logs) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, resource := range logs.ResourceLogs().All() {
		metadata := resource.Resource().Attributes().AsRaw()
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				line := event{record.Body().AsRaw(), int64(record.Timestamp()), metadata, record.Attributes().AsRaw()}
				if err := encoder.Encode(line); err != nil {
					return nil, err
				}
			}
		}
	}
	return text.Bytes(), nil
}

func serve(address, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	var one sync.Mutex
	keep, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		text, err := lines(logs)
		if err != nil {
			return err
		}
		one.Lock()
		defer one.Unlock()
		_, err = file.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	factory := splunkhecreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*splunkhecreceiver.Config)
	config.Endpoint = address
	settings := receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	collector, err := factory.CreateLogs(context.Background(), settings, config, keep)
	if err != nil {
		return err
	}
	return collector.Start(context.Background(), componenttest.NewNopHost())
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: hec ADDRESS FILE")
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
	select {}
}
