-- Contacts, call history, known supernodes, the newest records seen, settings of the program itself.

CREATE TABLE contacts (
    account   BLOB    NOT NULL PRIMARY KEY CHECK (length(account) = 32),
    name      TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    note      TEXT    NOT NULL,
    blocked   INTEGER NOT NULL,
    added_ms  INTEGER NOT NULL,
    -- The last verified reach record, so that a contact can be tried without the directory; protobuf.
    homes     BLOB
) STRICT;

CREATE TABLE calls (
    id            TEXT    NOT NULL PRIMARY KEY,
    account       BLOB    NOT NULL CHECK (length(account) = 32),
    direction     TEXT    NOT NULL,
    started_ms    INTEGER NOT NULL,
    answered_ms   INTEGER,
    ended_ms      INTEGER NOT NULL,
    reason        TEXT    NOT NULL,
    -- The figures, as the API's CallResult in JSON, and its path changes.
    result        TEXT    NOT NULL,
    path_changes  TEXT    NOT NULL
) STRICT;
CREATE INDEX calls_by_time ON calls (started_ms);

CREATE TABLE supernodes (
    service       BLOB    NOT NULL PRIMARY KEY CHECK (length(service) = 32),
    -- The signed descriptor as it was received; protobuf.
    descriptor    BLOB    NOT NULL,
    -- Which network it is in (spec/overlay.md "Networks").
    network       INTEGER NOT NULL,
    heard_ms      INTEGER NOT NULL,
    last_ok_ms    INTEGER,
    last_fail_ms  INTEGER,
    -- Higher is better: one more for each success, half for each failure.
    score         INTEGER NOT NULL
) STRICT;
CREATE INDEX supernodes_by_score ON supernodes (score);

CREATE TABLE seen_records (
    account    BLOB    NOT NULL PRIMARY KEY CHECK (length(account) = 32),
    epoch      INTEGER NOT NULL,
    -- Of each device, 40 bytes: its key, its highest sequence (big-endian).
    sequences  BLOB    NOT NULL,
    seen_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX seen_by_time ON seen_records (seen_ms);

CREATE TABLE settings (
    key    TEXT NOT NULL PRIMARY KEY,
    value  TEXT NOT NULL
) STRICT;
