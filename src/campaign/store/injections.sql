-- See `injection` in records.rs. What is drawn for a run that is not finished is not there yet.
SELECT
    trial, number, target, fault, at, why, CASE WHEN landed THEN receipt END,
    time_ns, cpu_time_ns, iteration, fate, fate_by
FROM injections ORDER BY trial, number
