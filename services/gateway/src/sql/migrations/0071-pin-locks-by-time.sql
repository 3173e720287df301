-- Gateways look for the newest locks again and again, to refuse step-up tokens of before.
create index pin_locks_by_time on gateway.pin_locks (locked_at);
