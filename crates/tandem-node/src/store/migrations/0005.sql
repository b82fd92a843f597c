-- What this device measured itself of supernodes that it used as homes. What they say of themselves is in `supernodes`.

CREATE TABLE supernode_quality (
    service      BLOB    NOT NULL PRIMARY KEY CHECK (length(service) = 32),
    -- How it served, 0 to 255; 128 when there is nothing to say.
    quality      INTEGER NOT NULL,
    -- The class of its round trip, 0 (under 30 ms) to 4 (300 ms and more); never the round trip itself.
    latency      INTEGER,
    -- How often it was a home, how long in all, and how often it was lost as one.
    times        INTEGER NOT NULL,
    held_ms      INTEGER NOT NULL,
    lost         INTEGER NOT NULL,
    -- Attempts in a row that came to nothing while other homes could be reached.
    failed       INTEGER NOT NULL,
    -- Look-ups in which it left out, or was behind with, what others knew; answers that did not verify, and the last.
    omitted      INTEGER NOT NULL,
    lied         INTEGER NOT NULL,
    lied_ms      INTEGER,
    measured_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX supernode_quality_by_time ON supernode_quality (measured_ms);

-- Nothing ever wrote these.
DROP INDEX supernodes_by_score;
ALTER TABLE supernodes DROP COLUMN last_ok_ms;
ALTER TABLE supernodes DROP COLUMN last_fail_ms;
ALTER TABLE supernodes DROP COLUMN score;
