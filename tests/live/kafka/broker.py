"""One Kafka broker in KRaft mode, on free ports and in a folder of its own, that can be killed and started again."""
import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from program import Failed, await_, free_port  # noqa: E402

USER, PASSWORD = "audit-exporter", "only-for-tests"
# What a token must be for.
SCOPE = "audit"
# Shared by all java processes: little memory, and no waiting for entropy.
JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", os.environ["KAFKA_JARS"] + "/*"]
LOGS = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{tls},MUTUAL://127.0.0.1:{mutual},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
    user_{user}="{password}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \\
    required unsecuredLoginStringClaim_sub="broker" unsecuredValidatorRequiredScope="{scope}";
listener.name.mutual.ssl.client.auth=required
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
"""


def certificates(folder):
    """An authority, a server's certificate for 127.0.0.1, and a client's, as PEM."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in (("server", "subjectAltName = IP:127.0.0.1"), ("client", "extendedKeyUsage = clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    openssl("pkcs8", "-topk8", "-nocrypt", "-in", "server.key", "-out", "server.pk8")
    parts = [(folder / name).read_text() for name in ("server.pk8", "server.crt", "ca.pem")]
    (folder / "server.pem").write_text("".join(parts))


class Broker:
    """A formatted broker. Listens without TLS, with TLS and passwords or tokens, and with TLS for certificates' owners."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.ports = {name: free_port() for name in ("plain", "tls", "mutual", "controller")}
        self.plain, self.tls, self.mutual = (f"127.0.0.1:{self.ports[name]}" for name in ("plain", "tls", "mutual"))
        certificates(folder)
        self.properties = folder / "server.properties"
        self.properties.write_text(PROPERTIES.format(folder=folder, user=USER, password=PASSWORD, scope=SCOPE, **self.ports))
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        self.tool("kafka.tools.StorageTool", "format", "--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg",
                  "--config", str(self.properties), "--add-scram", scram)

    def tool(self, main, *arguments):
        """Runs one of Kafka's own tools and returns what it wrote."""
        done = subprocess.run([*JAVA, *LOGS, main, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{main} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        with (self.folder / "broker.log").open("ab") as log:
            command = [*JAVA, *LOGS, "kafka.Kafka", str(self.properties)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        await_("the broker listens", self.listens, 120)

    def listens(self):
        if self.process.poll() is not None:
            raise Failed(f"the broker has ended, see {self.folder}/broker.log")
        try:
            for name in ("plain", "tls", "mutual"):
                socket.create_connection(("127.0.0.1", self.ports[name]), 1).close()
        except OSError:
            return False
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()
