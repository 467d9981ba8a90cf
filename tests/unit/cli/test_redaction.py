"""No secret of a conversation is stored, and ordinary text is left alone."""

from __future__ import annotations

import time

import pytest

from luma_memory.cli.redaction import MARK, redacted, redacted_beginning

LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7"
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0B\n-----END {0}PRIVATE KEY-----"
SECRETS = [
    ("sk-" + LETTERS, f"My key is sk-{LETTERS}, use it."),
    ("sk-proj-" + LETTERS, f"OPENAI_API_KEY=sk-proj-{LETTERS}"),
    ("sk-ant-api03-" + LETTERS, f"export KEY='sk-ant-api03-{LETTERS}'"),
    ("lmk_" + LETTERS, f"Bearer lmk_{LETTERS}"),
    ("ghp_" + LETTERS, f"git clone with ghp_{LETTERS}"),
    ("github_pat_" + LETTERS, f"github_pat_{LETTERS}"),
    ("glpat-" + LETTERS, f"token glpat-{LETTERS}"),
    ("xoxb" + "-123456789012-" + LETTERS, "slack xoxb" + f"-123456789012-{LETTERS}"),
    ("AKIA" + "ABCDEFGHIJKLMNOP", "aws AKIA" + "ABCDEFGHIJKLMNOP"),
    ("wJalrXUtnFEMI", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG"),
    ("AIza" + LETTERS + LETTERS, f"maps AIza{LETTERS}{LETTERS}"),
    ("npm_" + LETTERS, f"//registry/:_authToken=npm_{LETTERS}"),
    ("hf_" + LETTERS, f"login hf_{LETTERS}"),
    ("eyJhbGciOi", "cookie eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"),
    ("hunter2x", "The password is hunter2x."),
    ("hunter2x", "password: hunter2x"),
    ("hunter2x", 'DB_PASSWORD="hunter2x"'),
    ("hunter2x", '{"client_secret": "hunter2x"}'),
    ("hunter2x", "postgresql://ada:hunter2x@db.example/app"),
    ("hunter2x", "redis://:hunter2x@cache:6379"),
    ("hunter2x", "mysql --password=hunter2x -u root"),
    ("dXNlcjpwYXNz", "Authorization: Basic dXNlcjpwYXNz"),
    ("c2Vzc2lvbg", "Cookie: session=c2Vzc2lvbg; theme=dark"),
    ("MIIEvQ", PEM.format("")),
    ("MIIEvQ", PEM.format("RSA ")),
    ("MIIEvQ", PEM.format("OPENSSH ")),
    ("MIIEvQ", PEM.format("").partition("-----END")[0]),
    ("zQ8vK2", "AccountKey=zQ8vK2mN4pR6sT8uW0xY2z=="),
]
ORDINARY = [
    "The token budget is two thousand tokens.",
    "We discussed the secret santa list and the key decision.",
    "Passwords are hashed with argon2.",
    "See https://example.com/docs/api-keys for details.",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b fixes it",
    "The id is 01a22ac5-f425-7000-9961-43c834fc8486.",
    "def token(self) -> str: return self._value",
]


# Each with a place for the secret: a word that a person chose, …
CHOSEN = [
    "The database password for staging is {}, please remember it.",
    "I set the password to {}",
    "use password {} to log in",
    "my password is: {}",
    "the password's {}",
    "DB_PASS={}",
    "pw: {}",
    "pass: {}",
    "Password = '{}'",
    'PASSWORD=>"{}"',
    "password:\n  {}",
    "PGPASSWORD={} psql -h x",
    "ansible_become_pass: {}",
    "spring:\n  datasource:\n    password: {}",
    "-Dpassword={}",
    "PWD={}",
    "| password | {} |",
    "**Password:** {}",
    "**Password**: `{}`",
    "<password>{}</password>",
    '<add key="ApiKey" value="{}"/>',
    "user: ada\npassword: {}\nhost: db",
    "ALTER USER a PASSWORD '{}';",
    "CREATE USER x IDENTIFIED BY '{}';",
    "echo '{}' | docker login -u ada --password-stdin",
    "redis-cli -a {} ping",
    "curl -u ada:{} https://x",
    "curl --user ada:{} https://x",
    "mysql -u root -p{} db",
    "sshpass -p {} ssh x",
    'requests.get(url, auth=("ada", "{}"))',
    "machine api.example.com\n  login ada\n  password {}",
    "default login ada password {}",
    "Server=x;Uid=ada;Pwd={};Encrypt=true",
    "host=db user=ada password={} dbname=x",
    "jdbc:postgresql://h/db?user=ada&password={}&ssl=true",
    "postgresql://ada:p@ss/{}@db.example/app",
    "mongodb+srv://me:{}@c0.example.net/?retry=1",
    "ftp://ada:{}@ftp.example.com/x",
    "Mein Passwort ist {}",
    "contrase\u00f1a: {}",
    "mot de passe : {}",
    "\u043f\u0430\u0440\u043e\u043b\u044c: {}",
    "\u5bc6\u7801\uff1a{}",
    'passphrase: "correct horse {}"',
    '{{\\"password\\": \\"{}\\"}}',
]
# … a plain word, where no sentence follows, …
WORDS = [
    "password: {}",
    "Password is {}.",
    '{{"password": "{}"}}',
    "MYSQL_ROOT_PASSWORD: {}",
    "my password is '{}'",
    "password={}",
    "JWT_SECRET={}",
]
# … or letters and digits that were generated.
GENERATED = [
    "AWS Secret Access Key [None]: {}",
    "The AWS secret key is {}",
    "AKIA" + "ABCDEFGHIJKLMNOP / {}",
    "aws_session_token={}",
    "https://x.example/b?sv=2022&sig={}&se=2026",
    "twilio auth token {}",
    "https://b.example/k?X-Amz-Credential=x&X-Amz-Signature={}",
    "eth private key {}",
    "?key={}",
    "SharedAccessKeyName=Root;SharedAccessKey={}=",
    "az storage --account-key {}",
    "token: {}",
    "curl -H 'Authorization: token {}' https://x",
    'headers["Authorization"] = "Bearer {}"',
    "headers: {{ Authorization: `Bearer {}` }}",
    "'Authorization': f'Token {}'",
    "X-Auth-Token: {}",
    "PRIVATE-TOKEN: {}",
    '"refresh_token":"{}"',
    "access_token={}&expires=1",
    '"auth": "{}=="',
    "SECRET_KEY_BASE={}",
    "secretKeyBase: {}",
    "my api key is {}",
    '"apiKey": "{}"',
    "client_secret: {}",
    "Set-Cookie: sid={}; HttpOnly",
    "otpauth://totp/x?secret={}",
    "//r.example/:_authToken={}",
    '{{"kty": "RSA", "d": "{}"}}',
    "whsec" + "_{}",
    "rk" + "_test_{}",
    "sk" + "_live_{}",
    "sk" + "-or-v1-{}",
    "gho" + "_{}",
    "glrt" + "-{}",
    "xapp" + "-1-A0123-456-{}",
    "SG" + ".{}",
    "lin" + "_api_{}",
    "hvs" + ".{}",
    "dckr" + "_pat_{}",
    "GOCSPX" + "-{}",
    "ntn" + "_{}",
    "npm" + "_{}",
    "ATATT" + "3xFfGF0{}",
    "https://discord.com/api/webhooks/123456789012345678/{}",
    "https://hooks.slack.com/services/T0AAAAAAA/" + "B0AAAAAAA/{}",
    "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n{}\n---- END SSH2 PRIVATE KEY ----",
    "-----begin rsa private key-----\n{}\n-----end rsa private key-----",
    "> -----BEGIN EC " + "PRIVATE KEY-----\n> {}\n> -----END EC PRIVATE KEY-----",
    '"-----BEGIN ' + 'PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----"',
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{}\n-----END PGP PRIVATE KEY BLOCK-----",
    "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 2\n{}\nPrivate-MAC: 00",
]
SECRETS += [("Tr0ub4dor&3"[:9] + "x", text.format("Tr0ub4dor&3"[:9] + "x")) for text in CHOSEN]
SECRETS += [("swordfish", text.format("swordfish")) for text in WORDS]
SECRETS += [(LETTERS + "Z8" * 8, text.format(LETTERS + "Z8" * 8)) for text in GENERATED]
ORDINARY += [
    "password is required",
    "The password is required.",
    "A password is needed to log in",
    "password was changed yesterday",
    "The token is invalid",
    "The secret: patience.",
    "The PIN was wrong",
    "pin: see the board",
    "api key is missing",
    "your password must be long",
    "The password has expired, reset it at https://x.example/reset",
    "Das Passwort ist falsch.",
    "Reset your password: https://example.com/reset",
    "Passwort vergessen?",
    "senha: obrigat\u00f3ria",
    "The session token expires after 15 minutes",
    "tokens=4000",
    "max_tokens: 4096",
    "seed: 12345678",
    "prompt_tokens=1234, completion_tokens=567",
    "MEMORY_MCP_RESULT_TOKENS=4000",
    "token_type: bearer",
    "tokenizer: sentencepiece",
    "password_hash: argon2id",
    "passwords: list",
    "secret: boolean",
    "password = getpass.getpass()",
    "def login(user: str, password: str) -> None:",
    "token = os.environ['TOKEN']",
    "api_key: str | None = None",
    "const token = await getToken();",
    "user.password = make_password(raw)",
    "if password != confirm_password:",
    "token = tokenizer.next()",
    "access_token: Mapped[str | None]",
    "password: ${DB_PASSWORD}",
    "password: {{ vault_password }}",
    "OPENAI_API_KEY=<your key>",
    "OPENAI_API_KEY=$KEY",
    "OPENAI_API_KEY=your-key-here",
    "set MEMORY_API_KEY to the key",
    "The secret is stored in Vault at kv/app/db",
    "fetch(url, {credentials: 'same-origin'})",
    "key: value",
    "sorted(rows, key=itemgetter(1))",
    "key: 3f786850e387550fdab836ed7e6dc881de23001b",
    "primary_key: id",
    "the seed is 42",
    'ETag: "3f786850e387550fdab836ed7e6dc881de23001b"',
    "pass: 184/184",
    "The pass rate was 98.5%",
    "image: nginx@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0ba22cd15d6c15b0f00a08",
    "docker run -p 127.0.0.1:8080:80 -e A=b nginx",
    "mkdir -p src/module",
    "cp -p file other",
    "ssh -p 2222 host",
    "http://localhost:8080/a@b",
    "https://example.com:443/x?y=me@example.com",
    "git@github.com:org/repo.git",
    "ssh://git@host:22/x",
    "postgresql://ada@localhost/app",
    "The Authorization header: see RFC 9110",
    "Authorization: required",
    "Cookie: a small text file",
    "Bearer token authentication",
    "npm-run-all-something-long-enough",
    "sk_buff_head_init_class_2",
    "pat-riotism-is-a-long-word-here-okay",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ada@host",
    "secretary: Ana",
    "passport: Portuguese",
    "Set the token: first open settings",
    "the access key is public",
    "Token: The Movie",
]


@pytest.mark.parametrize(("secret", "text"), SECRETS)
def test_a_secret_is_replaced(secret: str, text: str) -> None:
    shown = redacted(text)
    assert secret not in shown
    assert MARK in shown


@pytest.mark.parametrize(("secret", "text"), SECRETS)
def test_a_secret_inside_a_conversation_is_replaced(secret: str, text: str) -> None:
    shown = redacted(f"Please remember:\n{text}\nThanks, that is all.")
    assert secret not in shown
    assert shown.startswith("Please remember:\n")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "secret", ["sk" + f"-{LETTERS}", f"the password is {LETTERS}", PEM.format("RSA ") + "x" * 9_000]
)
def test_a_secret_that_is_cut_is_replaced(secret: str) -> None:
    text = "word " * 20 + secret
    for end in range(len("word " * 20), min(len(text), 160)):
        kept = redacted_beginning(text, end)
        assert len(kept) <= end
        assert LETTERS[:2] not in kept
        assert "MII" not in kept


@pytest.mark.parametrize(
    "unit",
    [
        *("password ", "password: ", "token=", 'token="', "key=", "a", "/", "sk-", "eyJ", "-eyJ"),
        *(
            "http://a:",
            "curl -u ",
            "mysql -p",
            "login x password ",
            "-----BEGIN " + "PRIVATE KEY-----",
        ),
        *("Authorization: ", "Cookie: a=", "seed is ", "<token>", "Bearer ", " ", "A", "echo x "),
        *("AKIA" + "A" * 16 + " ", "M" * 25 + ".", "auth=('", "name='token' ", "--password "),
    ],
)
def test_the_time_grows_with_the_length_only(unit: str) -> None:
    """A hook has a second, and a transcript may contain anything."""
    seconds = [_seconds(unit * (length // len(unit))) for length in (10_000, 80_000)]
    assert seconds[1] < 24 * max(seconds[0], 0.002)


def _seconds(text: str) -> float:
    """Of this process, the least of three."""
    taken: list[float] = []
    for _ in range(3):
        started = time.process_time()
        redacted(text)
        taken.append(time.process_time() - started)
    return min(taken)


def test_a_long_text_keeps_what_is_no_secret() -> None:
    assert redacted("password " * 20_000).count("password") == 20_000
    assert redacted("a" * 200_000) == "a" * 200_000
