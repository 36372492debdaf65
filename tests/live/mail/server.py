"""A real mail server, mail-devel, with logins and TLS."""
import email.policy
import imaplib
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from program import REPOSITORY, Failed, await_, free_port  # noqa: E402

PASSWORD = "of-the-mail-server"
VENV = REPOSITORY / "target/live/mail"


class MailServer:
    """mail-devel: SMTP with STARTTLS and AUTH, SMTPS, and every mail in a mailbox over IMAP."""

    def __init__(self, folder):
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
             "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )
        self.smtp, self.smtps, self.imap = free_port(), free_port(), free_port()
        self.log = (folder / "mail.log").open("wb")
        self.process = subprocess.Popen(
            [VENV / "bin/mail_devel", "--host", "127.0.0.1", "--multi-user", "--password", PASSWORD, "--no-http",
             "--smtp-port", str(self.smtp), "--smtps-port", str(self.smtps), "--imap-port", str(self.imap),
             "--auth-required", "--starttls-required", "--cert", self.certificate, "--key", key],
            stdout=self.log, stderr=self.log,
        )
        await_("the mail server listens", lambda: self.listens())

    def listens(self):
        if self.process.poll() is not None:
            raise Failed(f"the mail server has ended, see {self.log.name}")
        try:
            for port in (self.smtp, self.smtps, self.imap):
                socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    def mails(self, user):
        """All mails of a mailbox, over IMAP."""
        box = imaplib.IMAP4("127.0.0.1", self.imap)
        try:
            box.login(user, PASSWORD)
            box.select("INBOX", readonly=True)
            _, (numbers,) = box.search(None, "ALL")
            mails = []
            for number in numbers.split():
                _, parts = box.fetch(number, "(RFC822)")
                mails.append(email.message_from_bytes(parts[0][1], policy=email.policy.default))
            return mails
        finally:
            box.logout()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
