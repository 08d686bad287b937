SELECT
    trials.*,
    printed.bytes AS stdout_text, printed.total AS stdout_bytes,
    length(printed.bytes) < printed.total AS stdout_cut,
    complained.bytes AS stderr_text, complained.total AS stderr_bytes,
    length(complained.bytes) < complained.total AS stderr_cut
FROM trials
LEFT JOIN outputs printed ON trials.stdout = printed.id
LEFT JOIN outputs complained ON trials.stderr = complained.id
WHERE trials.number = ?1
