-- Heimdall's catalog: who heard what, where it came from, and where the bytes are.

-- "HMDL": tells a catalog from other SQLite files.
PRAGMA application_id = 1213023308;

CREATE TABLE receivers (
    name             TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
    -- Place in the network, from 0 on.
    ordinal          INTEGER NOT NULL UNIQUE CHECK (ordinal >= 0),
    latitude_deg     REAL NOT NULL CHECK (latitude_deg BETWEEN -90 AND 90),
    longitude_deg    REAL NOT NULL CHECK (longitude_deg BETWEEN -180 AND 180),
    altitude_m       REAL NOT NULL,
    antenna_height_m REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sources (
    name           TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
    -- Both are NULL where nobody knows.
    latitude_deg   REAL CHECK (latitude_deg BETWEEN -90 AND 90),
    longitude_deg  REAL CHECK (longitude_deg BETWEEN -180 AND 180),
    error_margin_m REAL CHECK (error_margin_m >= 0),
    CHECK ((latitude_deg IS NULL) = (longitude_deg IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    name     TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
    source   TEXT NOT NULL REFERENCES sources (name),
    approval TEXT NOT NULL CHECK (approval IN ('pending', 'approved', 'rejected'))
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id           TEXT PRIMARY KEY NOT NULL CHECK (id <> ''),
    session      TEXT NOT NULL REFERENCES sessions (name),
    frequency_hz REAL NOT NULL CHECK (frequency_hz > 0),
    -- Seconds since 1970, UTC without leap seconds, and nanoseconds after them.
    start_s      INTEGER NOT NULL,
    start_ns     INTEGER NOT NULL CHECK (start_ns BETWEEN 0 AND 999999999)
) STRICT, WITHOUT ROWID;

CREATE TABLE recordings (
    event               TEXT NOT NULL REFERENCES events (id),
    receiver            TEXT NOT NULL REFERENCES receivers (name),
    -- Key in the object store, and BLAKE3 of the bytes there.
    object              TEXT NOT NULL CHECK (object <> ''),
    digest              TEXT NOT NULL CHECK (length(digest) = 64),
    format              TEXT NOT NULL CHECK (format IN ('npy', 'kiwi_wav')),
    sample_rate_hz      REAL NOT NULL CHECK (sample_rate_hz > 0),
    center_frequency_hz REAL NOT NULL CHECK (center_frequency_hz >= 0),
    start_s             INTEGER NOT NULL,
    start_ns            INTEGER NOT NULL CHECK (start_ns BETWEEN 0 AND 999999999),
    -- Standard deviation of the start; NULL where the clock is of unknown quality.
    clock_sigma_s       REAL CHECK (clock_sigma_s >= 0),
    sample_count        INTEGER NOT NULL CHECK (sample_count >= 0),
    PRIMARY KEY (event, receiver)
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_source ON sessions (source);
CREATE INDEX events_by_session ON events (session);
CREATE INDEX recordings_by_receiver ON recordings (receiver);
