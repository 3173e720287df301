-- A lock of a PIN counts for a month; those that are long over are purged.
grant delete on gateway.pin_locks to gateway;
