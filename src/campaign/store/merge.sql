-- Takes over what the attached store `other` has finished and this one has not.
CREATE TEMP TABLE taken AS
    SELECT number FROM other.trials theirs WHERE outcome IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM main.trials own WHERE own.number = theirs.number AND own.outcome IS NOT NULL);

DELETE FROM main.injections WHERE trial IN (SELECT number FROM taken);
DELETE FROM main.metrics WHERE trial IN (SELECT number FROM taken);
DELETE FROM main.samples WHERE trial IN (SELECT number FROM taken);
DELETE FROM main.trials WHERE number IN (SELECT number FROM taken);

INSERT OR IGNORE INTO main.outputs (hash, total, bytes)
    SELECT hash, total, bytes FROM other.outputs;
INSERT INTO main.trials SELECT * FROM other.trials WHERE number IN (SELECT number FROM taken);
-- The same output has another number in each store.
UPDATE main.trials SET
    stdout = (SELECT own.id FROM main.outputs own JOIN other.outputs theirs USING (hash, total)
        WHERE theirs.id = stdout),
    stderr = (SELECT own.id FROM main.outputs own JOIN other.outputs theirs USING (hash, total)
        WHERE theirs.id = stderr)
WHERE number IN (SELECT number FROM taken);
INSERT INTO main.injections
    SELECT * FROM other.injections WHERE trial IN (SELECT number FROM taken);
INSERT INTO main.metrics SELECT * FROM other.metrics WHERE trial IN (SELECT number FROM taken);
INSERT INTO main.samples SELECT * FROM other.samples WHERE trial IN (SELECT number FROM taken);
INSERT INTO main.failures
    SELECT * FROM other.failures theirs WHERE NOT EXISTS (SELECT 1 FROM main.failures own
        WHERE (own.trial, own.time, own.why) = (theirs.trial, theirs.time, theirs.why));
