-- Each time wrong PINs locked somebody's PIN: many within a month freeze the wallets.
create table gateway.pin_locks (
  user_id      uuid not null references gateway.users,
  -- Names the lock: a try that settles later beside the one that locked finds the same.
  locked_until timestamptz not null,
  locked_at    timestamptz not null default now(),
  -- Whether the wallets are still to be frozen for it.
  freeze_due   boolean not null,
  primary key (user_id, locked_until)
);
create index pin_locks_due on gateway.pin_locks (locked_at) where freeze_due;

grant select, insert, update on gateway.pin_locks to gateway;
