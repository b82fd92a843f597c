-- Strangers: invitations that are out, silent requests, blocked accounts; per contact, relays only and the
-- invitation with which it is called.

CREATE TABLE invitations (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- Of the secret, which is not kept (spec/identity.md "Invitations").
    hash          BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    label         TEXT    NOT NULL,
    made_ms       INTEGER NOT NULL,
    not_after_ms  INTEGER NOT NULL,
    -- How many different accounts may use it.
    uses          INTEGER NOT NULL
) STRICT;

CREATE TABLE invitation_uses (
    invitation  INTEGER NOT NULL REFERENCES invitations (id) ON DELETE CASCADE,
    account     BLOB    NOT NULL CHECK (length(account) = 32),
    used_ms     INTEGER NOT NULL,
    PRIMARY KEY (invitation, account)
) STRICT;

CREATE TABLE requests (
    account   BLOB    NOT NULL PRIMARY KEY CHECK (length(account) = 32),
    name      TEXT    NOT NULL,
    message   TEXT    NOT NULL,
    bits      INTEGER NOT NULL,
    at_ms     INTEGER NOT NULL,
    -- The person said no: another one of this account is passed over as long as this row is here.
    declined  INTEGER NOT NULL
) STRICT;
CREATE INDEX requests_by_time ON requests (at_ms);

CREATE TABLE blocks (
    account   BLOB    NOT NULL PRIMARY KEY CHECK (length(account) = 32),
    since_ms  INTEGER NOT NULL
) STRICT;
INSERT INTO blocks SELECT account, added_ms FROM contacts WHERE blocked;

ALTER TABLE contacts DROP COLUMN blocked;
ALTER TABLE contacts ADD COLUMN relay_only INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contacts ADD COLUMN invitation BLOB CHECK (invitation IS NULL OR length(invitation) = 20);
