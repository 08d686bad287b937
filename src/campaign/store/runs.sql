-- See `run` in records.rs.
SELECT
    number, kind, outcome, why, tolerated, seed, boot, exit_status, signal,
    time_ns, cpu_time_ns, host_cpu_time_ns, iteration_ns, host, finished
FROM trials WHERE outcome IS NOT NULL ORDER BY number
