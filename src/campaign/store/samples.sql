-- How long an iteration took on average, where that was looked at.
ALTER TABLE trials ADD COLUMN iteration_ns INTEGER;

-- What was seen of the variables of the plan's curves: the last value while the counter stood at
-- `iteration`, NULL where it was no number or could not be read; and when it was first seen there.
CREATE TABLE samples (
    trial INTEGER NOT NULL REFERENCES trials (number),
    name TEXT NOT NULL,
    iteration INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    value REAL,
    PRIMARY KEY (trial, name, iteration)
) WITHOUT ROWID;
