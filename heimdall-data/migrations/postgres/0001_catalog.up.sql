-- Heimdall's catalog: who heard what, where it came from, and where the bytes are. It is that of
-- SQLite, with names in the order of their bytes there, too, and NaN, which is above all numbers
-- here, kept out.

CREATE TABLE receivers (
    name             TEXT COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    -- Place in the network, from 0 on.
    ordinal          BIGINT NOT NULL UNIQUE CHECK (ordinal >= 0),
    latitude_deg     DOUBLE PRECISION NOT NULL CHECK (latitude_deg BETWEEN -90 AND 90),
    longitude_deg    DOUBLE PRECISION NOT NULL CHECK (longitude_deg BETWEEN -180 AND 180),
    altitude_m       DOUBLE PRECISION NOT NULL CHECK (altitude_m <> 'NaN'),
    antenna_height_m DOUBLE PRECISION NOT NULL CHECK (antenna_height_m <> 'NaN')
);

CREATE TABLE sources (
    name           TEXT COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    -- Both are NULL where nobody knows.
    latitude_deg   DOUBLE PRECISION CHECK (latitude_deg BETWEEN -90 AND 90),
    longitude_deg  DOUBLE PRECISION CHECK (longitude_deg BETWEEN -180 AND 180),
    error_margin_m DOUBLE PRECISION CHECK (error_margin_m >= 0 AND error_margin_m <> 'NaN'),
    CHECK ((latitude_deg IS NULL) = (longitude_deg IS NULL))
);

CREATE TABLE sessions (
    name     TEXT COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    source   TEXT COLLATE "C" NOT NULL REFERENCES sources (name),
    approval TEXT COLLATE "C" NOT NULL CHECK (approval IN ('pending', 'approved', 'rejected'))
);

CREATE TABLE events (
    id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    session      TEXT COLLATE "C" NOT NULL REFERENCES sessions (name),
    frequency_hz DOUBLE PRECISION NOT NULL CHECK (frequency_hz > 0 AND frequency_hz <> 'NaN'),
    -- Seconds since 1970, UTC without leap seconds, and nanoseconds after them.
    start_s      BIGINT NOT NULL,
    start_ns     BIGINT NOT NULL CHECK (start_ns BETWEEN 0 AND 999999999)
);

CREATE TABLE recordings (
    event               TEXT COLLATE "C" NOT NULL REFERENCES events (id),
    receiver            TEXT COLLATE "C" NOT NULL REFERENCES receivers (name),
    -- Key in the object store, and BLAKE3 of the bytes there.
    object              TEXT COLLATE "C" NOT NULL CHECK (object <> ''),
    digest              TEXT COLLATE "C" NOT NULL CHECK (length(digest) = 64),
    format              TEXT COLLATE "C" NOT NULL CHECK (format IN ('npy', 'kiwi_wav')),
    sample_rate_hz      DOUBLE PRECISION NOT NULL
        CHECK (sample_rate_hz > 0 AND sample_rate_hz <> 'NaN'),
    center_frequency_hz DOUBLE PRECISION NOT NULL
        CHECK (center_frequency_hz >= 0 AND center_frequency_hz <> 'NaN'),
    start_s             BIGINT NOT NULL,
    start_ns            BIGINT NOT NULL CHECK (start_ns BETWEEN 0 AND 999999999),
    -- Standard deviation of the start; NULL where the clock is of unknown quality.
    clock_sigma_s       DOUBLE PRECISION CHECK (clock_sigma_s >= 0 AND clock_sigma_s <> 'NaN'),
    sample_count        BIGINT NOT NULL CHECK (sample_count >= 0),
    PRIMARY KEY (event, receiver)
);

CREATE INDEX sessions_by_source ON sessions (source);
CREATE INDEX events_by_session ON events (session);
CREATE INDEX recordings_by_receiver ON recordings (receiver);
