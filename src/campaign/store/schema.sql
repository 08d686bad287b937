-- What a campaign is, by name: see `Facts` in store.rs.
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What was printed: each text once. `total` bytes were printed, of which `bytes` are the last.
CREATE TABLE outputs (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    total INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (hash, total)
);

-- Runs, all of them from the start: `outcome` is NULL until one is finished. Times are in ns.
CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    seed INTEGER NOT NULL,
    boot INTEGER,
    outcome TEXT,
    why TEXT,
    tolerated INTEGER,
    exit_status INTEGER,
    signal INTEGER,
    landed INTEGER,
    time_ns INTEGER,
    cpu_time_ns INTEGER,
    host_cpu_time_ns INTEGER,
    iterations REAL,
    stdout INTEGER REFERENCES outputs (id),
    stderr INTEGER REFERENCES outputs (id),
    restore_ns INTEGER,
    prepare_ns INTEGER,
    read_ns INTEGER,
    host TEXT,
    finished TEXT
);

-- What is drawn for each injection, and what came of it.
CREATE TABLE injections (
    trial INTEGER NOT NULL REFERENCES trials (number),
    number INTEGER NOT NULL,
    target INTEGER NOT NULL,
    fault INTEGER NOT NULL,
    at REAL NOT NULL,
    landed INTEGER,
    why TEXT,
    receipt TEXT,
    time_ns INTEGER,
    cpu_time_ns INTEGER,
    iteration REAL,
    fate TEXT,
    fate_by TEXT,
    PRIMARY KEY (trial, number)
) WITHOUT ROWID;

-- Numbers of each finished run. SQLite knows no NaN: `text` has the number as it was.
CREATE TABLE metrics (
    trial INTEGER NOT NULL REFERENCES trials (number),
    name TEXT NOT NULL,
    value REAL,
    text TEXT,
    PRIMARY KEY (trial, name)
) WITHOUT ROWID;

-- Runs that came to nothing for no fault of the program; each was made again.
CREATE TABLE failures (trial INTEGER NOT NULL, time TEXT NOT NULL, why TEXT NOT NULL);
