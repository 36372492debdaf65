-- The journal's own facts: its random id, the seed of its hashes.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One tenant's live events, or its catch-up. Of all that was ever committed to it: `journaled` counts the events,
-- `head` is the last batch.
CREATE TABLE lanes (
    lane      INTEGER PRIMARY KEY,
    tenant    TEXT    NOT NULL,
    kind      INTEGER NOT NULL,
    journaled INTEGER NOT NULL DEFAULT 0,
    head      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, kind)
);

-- One source's collection of one tenant. `number` numbers sources in the ids' hashes. `trouble`: why it cannot list,
-- since when (milliseconds since 1970).
CREATE TABLE streams (
    stream        INTEGER PRIMARY KEY,
    source        TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    checkpoint    TEXT,
    trouble       TEXT,
    trouble_kind  TEXT,
    trouble_since INTEGER,
    UNIQUE (source, tenant)
);
CREATE TABLE source_numbers (
    number INTEGER PRIMARY KEY,
    source TEXT NOT NULL UNIQUE
);

-- Events on their way. AUTOINCREMENT: a sequence number is never used again. `hours`: how many events of which hour,
-- so that a batch can be accounted for without reading it. `file`, `offset`, `sum`: where its body lies, in the files
-- bodies.* beside this one (core/src/journal/bodies.rs). `cuts`: core/src/journal/body.rs.
CREATE TABLE batches (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    lane         INTEGER NOT NULL,
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    unit         TEXT    NOT NULL,
    events       INTEGER NOT NULL,
    raw_bytes    INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    journaled_at INTEGER NOT NULL,
    hours        BLOB    NOT NULL,
    file         INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    sum          INTEGER NOT NULL,
    cuts         BLOB
);
CREATE INDEX batches_by_lane ON batches (lane, seq, stored_bytes, events, file);

-- What a stream collects, and which passes over it have come how far. `since`, `ended`, `listed_to` in milliseconds
-- since 1970; `kept`: for how many a source can list what became available; `lag`: how many seconds after a time the pass
-- comes, 0 for the first listing.
CREATE TABLE reach (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    since        INTEGER NOT NULL,
    kept         INTEGER NOT NULL,
    ended        INTEGER,
    PRIMARY KEY (stream, content_type)
) WITHOUT ROWID;
CREATE TABLE passes (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    lag          INTEGER NOT NULL,
    listed_to    INTEGER NOT NULL,
    PRIMARY KEY (stream, content_type, lag)
) WITHOUT ROWID;

-- What a source has listed. state: 0 pending, 1 fetched, 2 lost. `pass`: for a straggler, the lag of the pass that found
-- it, 0 if a poll did. Times in milliseconds since 1970.
CREATE TABLE units (
    stream       INTEGER NOT NULL,
    unit         TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    locator      TEXT,
    created      INTEGER NOT NULL,
    expires      INTEGER NOT NULL,
    lane_kind    INTEGER NOT NULL,
    pass         INTEGER,
    state        INTEGER NOT NULL DEFAULT 0,
    attempts     INTEGER NOT NULL DEFAULT 0,
    due          INTEGER NOT NULL,
    error        TEXT,
    PRIMARY KEY (stream, unit)
) WITHOUT ROWID;
CREATE INDEX pending_units ON units (stream, lane_kind, due) WHERE state = 0;
CREATE INDEX expiring_units ON units (stream, content_type, expires) WHERE state = 0;
CREATE INDEX settled_units ON units (state, expires) WHERE state <> 0;

-- Times that a source could not list and never will. `from` to `to` (excluded) and `at` in milliseconds since 1970.
CREATE TABLE gaps (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    "from"       INTEGER NOT NULL,
    "to"         INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL
);

-- Sinks, since when (seconds since 1970) they are not configured or paused, and how far each is in each lane. seq 0: nothing yet. Counts are of events behind the cursor.
CREATE TABLE sinks (
    sink       TEXT PRIMARY KEY,
    receipt    TEXT,
    orphan_since INTEGER,
    paused_since INTEGER
) WITHOUT ROWID;
CREATE TABLE cursors (
    sink      TEXT    NOT NULL,
    lane      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    baseline  INTEGER NOT NULL,
    filtered  INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    skipped   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, lane)
) WITHOUT ROWID;
CREATE INDEX cursors_by_lane ON cursors (lane, seq);

-- Ranges that a sink skipped, because the journal was full or a body is damaged.
CREATE TABLE detached (
    sink   TEXT    NOT NULL,
    lane   INTEGER NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    events INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT    NOT NULL
);

-- Batches whose body was found damaged. Their units are fetched again if they are listed again, with all their events,
-- which ids would take for repeats (core/src/journal/struck.rs).
CREATE TABLE struck (
    seq    INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    unit   TEXT    NOT NULL
);
CREATE INDEX struck_units ON struck (stream, unit);
CREATE TRIGGER forget_struck AFTER DELETE ON units BEGIN
    DELETE FROM struck WHERE stream = OLD.stream AND unit = OLD.unit;
END;

-- Events that a sink, or the intake (sink NULL), refused for good. An event's bytes are its parts in order. `record`:
-- its place among the oversized ones of its unit, by which a unit that is fetched again finds what it left. `lane`: the
-- cursor that counts it as dead; NULL once that is gone. `attempts`: how often it was handed over.
CREATE TABLE dead_letters (
    letter       INTEGER PRIMARY KEY AUTOINCREMENT,
    sink         TEXT,
    tenant       TEXT    NOT NULL,
    lane         INTEGER,
    source       TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    unit         TEXT    NOT NULL,
    record       INTEGER,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 1,
    complete     INTEGER NOT NULL
);
CREATE UNIQUE INDEX oversize_letters ON dead_letters (tenant, source, unit, record) WHERE sink IS NULL;
CREATE INDEX counted_letters ON dead_letters (sink, lane) WHERE sink IS NOT NULL;
CREATE TRIGGER uncount_letters AFTER DELETE ON cursors BEGIN
    UPDATE dead_letters SET lane = NULL WHERE sink = OLD.sink AND lane = OLD.lane;
END;
CREATE TABLE dead_letter_parts (
    letter INTEGER NOT NULL,
    part   INTEGER NOT NULL,
    body   BLOB    NOT NULL,
    PRIMARY KEY (letter, part)
);

-- Coverage by hour (hours since 1970; -1: no readable time; -2: too old to be told apart). Content: hour of the unit's
-- `created`. Events: hour of the event's CreationTime. Old hours are folded into the first of their day.
CREATE TABLE coverage_content (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    hour         INTEGER NOT NULL,
    listed       INTEGER NOT NULL DEFAULT 0,
    fetched      INTEGER NOT NULL DEFAULT 0,
    lost         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (stream, content_type, hour)
) WITHOUT ROWID;
CREATE TABLE coverage_events (
    tenant    TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    journaled INTEGER NOT NULL DEFAULT 0,
    repeats   INTEGER NOT NULL DEFAULT 0,
    variants  INTEGER NOT NULL DEFAULT 0,
    late      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, hour)
) WITHOUT ROWID;
CREATE TABLE coverage_sinks (
    sink      TEXT    NOT NULL,
    tenant    TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    filtered  INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    skipped   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, tenant, hour)
) WITHOUT ROWID;

-- Stragglers: units that a later pass found, by the hour of `created`, when the first and the last was found; and the
-- events in them.
CREATE TABLE straggler_units (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    hour         INTEGER NOT NULL,
    pass         INTEGER NOT NULL,
    units        INTEGER NOT NULL,
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    PRIMARY KEY (stream, content_type, hour, pass)
) WITHOUT ROWID;
CREATE TABLE straggler_events (
    stream       INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    pass         INTEGER NOT NULL,
    workload     TEXT    NOT NULL,
    events       INTEGER NOT NULL,
    PRIMARY KEY (stream, content_type, pass, workload)
) WITHOUT ROWID;

-- Events journaled by workload and hour of CreationTime, of the weeks from which the usual rate is learned.
CREATE TABLE activity (
    stream   INTEGER NOT NULL,
    workload TEXT    NOT NULL,
    hour     INTEGER NOT NULL,
    events   INTEGER NOT NULL,
    PRIMARY KEY (stream, hour, workload)
) WITHOUT ROWID;

-- Dedupe: the log of the newest ids, and the runs of older ones, which are the files ids.* beside this one
-- (core/src/dedupe). `journaled`: when the newest of its ids was, in seconds since 1970.
CREATE TABLE id_log (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    ids   BLOB NOT NULL
);
CREATE TABLE id_runs (
    run       INTEGER PRIMARY KEY,
    level     INTEGER NOT NULL,
    journaled INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
);

-- Small durable stores of plugin instances.
CREATE TABLE stores (
    instance TEXT NOT NULL,
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (instance, key)
) WITHOUT ROWID;
