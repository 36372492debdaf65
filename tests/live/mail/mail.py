#!/usr/bin/env python3
"""Email digests of three simulated tenants by a real SMTP server with TLS and logins, read back over IMAP.

    mail.py [--picture FILE]

What must be so:
- each tenant's flows are in its own mailbox, and in no other;
- a flow that arrives a day late is in the next mail, as late;
- `digest send` sends a day again beside the running process; `digest list` and `preview` show what is so;
- killed with SIGKILL between two mails, none is missing and none comes twice;
- killed between the server's answer and what is noted of it, that mail comes once more, as the same.

With --picture a day's digest is photographed in Chromium, as on a wide screen and on a phone.
"""
import argparse
import datetime
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from program import Failed, Run, Simulator, await_, build, configuration, get  # noqa: E402
from server import PASSWORD, MailServer  # noqa: E402

TENANTS = {
    "contoso": "11111111-2222-4333-8444-555555555501",
    "fabrikam": "11111111-2222-4333-8444-555555555502",
    "tailspin": "11111111-2222-4333-8444-555555555503",
}


def flow(tenant, name, created):
    return json.dumps({
        "CreationTime": created.strftime("%Y-%m-%dT%H:%M:%S"), "Id": f"{tenant}-{name}-{created.timestamp()}",
        "Operation": "CreateFlow", "OrganizationId": TENANTS[tenant], "RecordType": 30, "ResultStatus": "Success",
        "UserKey": f"{name}@{tenant}.example", "UserType": 0, "Version": 1, "Workload": "MicrosoftFlow",
        "UserId": f"{name}@{tenant}.example", "FlowConnectorNames": "Request,Response,Http",
        "FlowDetailsUrl": f"https://admin.powerplatform.microsoft.com/environments/{tenant}-env/flows/{tenant}-{name}/flowDetails",
        "SharingPermission": 2,
    })


def show(simulator, tenant, records):
    blob = {"content_type": "Audit.General", "records": records}
    get(f"{simulator.url}/control/blobs", {"tenant": TENANTS[tenant], "blob": blob})


def simulated():
    tenants = "".join(
        f'[[tenants]]\nid = "{id}"\ndomain = "{name}.onmicrosoft.com"\nrecords = {{ explicit = [] }}\n'
        for name, id in TENANTS.items()
    )
    return tenants + "[faults]\ntokens = { lifetime_seconds = 864000 }\n"


def digest_by_mail(simulator, server, tls):
    port = server.smtps if tls == "tls" else server.smtp
    # A mail a minute, so that nobody has to wait for a morning.
    text = (
        '[sources.activity]\ntype = "management_activity"\ncontent_types = ["Audit.General"]\npoll_interval = "1s"\n'
        '[filters.new-flows]\ntype = "operation"\ninclude = ["CreateFlow"]\n'
        '[sinks.new-flows]\ntype = "email_digest"\nfilters = ["new-flows"]\nreport = "flows"\ntitle = "New flows"\n'
        'from = "Audit <audit@example.com>"\nschedule = "* * * * *"\nperiod = "minute"\nsettle = "0s"\nsend_empty = false\n'
        f'[sinks.new-flows.smtp]\nhost = "localhost"\nport = {port}\ntls = "{tls}"\nca_file = "{server.certificate}"\n'
        f'user = "audit@example.com"\npassword = "{PASSWORD}"\n'
    )
    for name in TENANTS:
        text += f'[sinks.new-flows.per_tenant.{name}]\nto = ["admins@{name}.example"]\n'
    return configuration(simulator.url, text, TENANTS)


def body(mail, kind):
    return mail.get_body((kind,)).get_content()


def digest(binary, config, *arguments):
    command = [binary, "digest", *arguments, "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"digest {arguments} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def expect(condition, what):
    if not condition:
        raise Failed(what)


def no_crossing(boxes):
    for own, mails in boxes.items():
        for mail in mails:
            whole = "\n".join([mail["Subject"], mail["To"], body(mail, "html"), body(mail, "plain")])
            for other in TENANTS:
                expect((other in whole) == (other == own), f"{other} in a mail of {own}:\n{whole}")


def digests(binary, server, folder, tls):
    simulator = Simulator(binary, folder, simulated())
    try:
        mails(binary, simulator, server, folder, tls)
    finally:
        simulator.stop()


def mails(binary, simulator, server, folder, tls):
    config = folder / "config.toml"
    config.write_text(digest_by_mail(simulator, server, tls))
    boxes = lambda: {name: server.mails(f"admins@{name}.example") for name in TENANTS}  # noqa: E731
    before = {name: len(mails) for name, mails in boxes().items()}
    new = lambda: {name: mails[before[name]:] for name, mails in boxes().items()}  # noqa: E731
    text = lambda name: "\n".join(body(mail, "plain") for mail in new()[name])  # noqa: E731
    checked = subprocess.run([binary, "check", "--config", config], capture_output=True, text=True, check=False)
    expect("takes mails as audit@example.com" in checked.stdout, f"check says {checked.stdout}{checked.stderr}")

    run = Run(binary, config, folder / "run.log")
    await_("the exporter has listed", run.listed)
    now = datetime.datetime.now(datetime.timezone.utc)
    for count, name in enumerate(TENANTS, 1):
        show(simulator, name, [flow(name, f"maker{number}", now) for number in range(count)])
    await_("each tenant has its mail", lambda: all(f"maker{count}@" in text(name) for count, name in enumerate(TENANTS)))
    no_crossing(new())
    sent = lambda: [entry for entry in json.loads(digest(binary, config, "list", "--json")) if entry["sent"]]  # noqa: E731
    await_("all three are noted as sent", lambda: len(sent()) == len(TENANTS))
    print(f"{tls}: three tenants' digests are in three mailboxes, without crossing")

    # Killed at any moment, and started again: nothing is lost, nothing comes twice.
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    run = Run(binary, config, folder / "run.log")
    await_("the exporter has listed again", run.listed)
    yesterday = now - datetime.timedelta(days=1)
    show(simulator, "contoso", [flow("contoso", "latecomer", yesterday)])
    await_("the late flow is in the next mail", lambda: "latecomer@contoso.example" in text("contoso"))
    late = new()["contoso"][-1]
    expect("+ 1 late" in late["Subject"] and "LATE: 1" in body(late, "plain"), f"it is not told as late: {late['Subject']}")
    once = [f"maker{number}@{name}.example" for count, name in enumerate(TENANTS, 1) for number in range(count)]
    everything = "\n".join(text(name) for name in TENANTS)
    for maker in [*once, "latecomer@contoso.example"]:
        expect(everything.count(maker) == 1, f"{maker} is in the mails {everything.count(maker)} times")
    no_crossing(new())
    print(f"{tls}: a flow that arrived a day late is in the next mail, as late")

    listed = json.loads(digest(binary, config, "list", "--json"))
    noted = {entry["tenant"]: [past for past in entry["sent"] if past["message_id"]] for entry in listed}
    ids = {name: [mail["Message-ID"] for mail in mails] for name, mails in new().items()}
    noted = {name: [past["message_id"] for past in pasts] for name, pasts in noted.items()}
    expect(noted == ids, f"the list says {noted}, the mailboxes {ids}")
    day = yesterday.strftime("%Y-%m-%d")
    html = digest(binary, config, "preview", "--tenant", "contoso", "--period", day)
    expect("latecomer@contoso.example" in html and "maker0" not in html, f"the preview shows {html}")
    said = digest(binary, config, "send", "--tenant", "contoso", "--period", day)
    expect("sent to admins@contoso.example" in said, f"send says {said}")
    expect("latecomer@contoso.example" in body(new()["contoso"][-1], "html"), "it was not sent")
    run.stop()
    print(f"{tls}: list, preview and send, beside the running process")


def killed_after_the_answer(binary, server, folder):
    simulator = Simulator(binary, folder, simulated())
    try:
        config = folder / "config.toml"
        config.write_text(digest_by_mail(simulator, server, "tls"))
        before = len(server.mails("admins@contoso.example"))
        mails = lambda: server.mails("admins@contoso.example")[before:]  # noqa: E731
        run = Run(binary, config, folder / "run.log", KILL_AT="email_digest::sent=1")
        await_("the exporter has listed", run.listed)
        show(simulator, "contoso", [flow("contoso", "maker", datetime.datetime.now(datetime.timezone.utc))])
        await_("the exporter ends itself", run.ended)
        expect(run.process.returncode == -signal.SIGKILL, f"it ended with {run.process.returncode}")
        expect(len(mails()) == 1, "there is no mail yet")
        run = Run(binary, config, folder / "run.log")
        await_("the mail comes once more", lambda: len(mails()) > 1)
        noted = lambda: [past for entry in json.loads(digest(binary, config, "list", "--json")) for past in entry["sent"]]  # noqa: E731
        await_("it is noted", lambda: any(past["message_id"] for past in noted()))
        run.stop()
        first, second = mails()
        for mail in (first, second):
            # The server's own: which connection it came by.
            del mail["X-Peer"]
        expect(first.as_bytes() == second.as_bytes(), f"it is another: {first} and {second}")
        expect([past["message_id"] for past in noted() if past["rows"] + past["late"]] == [first["Message-ID"]], "it is noted otherwise")
        print("killed after the server's answer: the same mail comes once more")
    finally:
        simulator.stop()


def photograph(binary, folder, picture):
    """A day of a generated tenant, as Chromium shows it: 860 and 390 pixels wide."""
    simulator = Simulator(binary, folder, '[[tenants]]\n[tenants.records.generated]\nevents = 1200\ndays = 2.0\n'
                          'oddities = 0.0\ncontent_types = ["Audit.General"]\n')
    config = folder / "picture" / "config.toml"
    config.parent.mkdir()
    config.write_text(configuration(simulator.url, """
[sources.activity]
type = "management_activity"
content_types = ["Audit.General"]
[filters.new-flows]
type = "operation"
include = ["CreateFlow"]
[sinks.new-flows]
type = "email_digest"
filters = ["new-flows"]
report = "flows"
title = "New flows"
from = "audit@example.com"
to = ["admins@contoso.example"]
[sinks.new-flows.smtp]
host = "localhost"
"""))
    done = subprocess.run([binary, "run", "--once", "--config", config], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"run --once ended with {done.returncode}: {done.stderr}")
    simulator.stop()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    yesterday = str(today - datetime.timedelta(days=1))
    digest(binary, config, "preview", "--period", yesterday, "--out", folder / "digest.html")
    (folder / "both.html").write_text("""<body style="margin:0;background:#8a94a3;display:flex;gap:24px;padding:24px">
<iframe src="digest.html" style="width:780px;height:640px;border:0"></iframe>
<iframe src="digest.html" style="width:390px;height:640px;border:0"></iframe></body>""")
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}/chromium",
         "--window-size=1242,688", f"--screenshot={picture}", f"file://{folder}/both.html"],
        check=True, capture_output=True, timeout=120,
    )
    size = picture.stat().st_size
    expect(size > 20_000, f"the picture has {size} bytes")
    print(f"{picture}: {size} bytes")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--picture", type=pathlib.Path, metavar="FILE")
    arguments = options.parse_args()
    binary = build("--features", "failpoints")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = MailServer(folder)
        try:
            began = time.monotonic()
            for tls in ("starttls", "tls"):
                (folder / tls).mkdir()
                digests(binary, server, folder / tls, tls)
            (folder / "killed").mkdir()
            killed_after_the_answer(binary, server, folder / "killed")
            photograph(binary, folder, (arguments.picture or folder / "digest.png").resolve())
            print(f"all as it should be, in {time.monotonic() - began:.0f} s")
        finally:
            server.stop()


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
