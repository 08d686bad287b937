UPDATE trials SET
    boot = ?2, outcome = ?3, why = ?4, tolerated = ?5, exit_status = ?6, signal = ?7, landed = ?8,
    time_ns = ?9, cpu_time_ns = ?10, host_cpu_time_ns = ?11, iterations = ?12, stdout = ?13,
    stderr = ?14, restore_ns = ?15, prepare_ns = ?16, read_ns = ?17, host = ?18, finished = ?19,
    iteration_ns = ?20
WHERE number = ?1
