-- Volunteering: what the owner agreed to and allows, and the ledger of what was served.

-- Each time a role was agreed to. What was withdrawn stays, with both moments.
CREATE TABLE consents (
    id            INTEGER PRIMARY KEY,
    role          TEXT    NOT NULL CHECK (role IN ('directory', 'relay')),
    terms         INTEGER NOT NULL,
    given_ms      INTEGER NOT NULL,
    withdrawn_ms  INTEGER
) STRICT;

-- One row. NULL: not set, so the settings hold.
CREATE TABLE volunteer_caps (
    one                        INTEGER PRIMARY KEY CHECK (one = 1),
    devices                    INTEGER,
    calls                      INTEGER,
    bits_per_second            INTEGER,
    directory_bytes_per_month  INTEGER,
    relay_bytes_per_month      INTEGER,
    -- Minutes after local midnight.
    from_min                   INTEGER CHECK (from_min BETWEEN 0 AND 1439),
    until_min                  INTEGER CHECK (until_min BETWEEN 0 AND 1439)
) STRICT;

-- Sums of a day (UTC). Nothing in it says who was served.
CREATE TABLE ledger (
    -- Days since 1970-01-01.
    day         INTEGER NOT NULL,
    role        TEXT    NOT NULL CHECK (role IN ('directory', 'relay')),
    bytes       INTEGER NOT NULL,
    -- The most at once.
    devices     INTEGER NOT NULL,
    calls       INTEGER NOT NULL,
    circuits    INTEGER NOT NULL,
    lookups     INTEGER NOT NULL,
    checks      INTEGER NOT NULL,
    served_ms   INTEGER NOT NULL,
    PRIMARY KEY (day, role)
) STRICT;
