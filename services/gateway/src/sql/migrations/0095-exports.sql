-- Copies of their data that users have asked for: made apart from the request, kept for a day.

create table gateway.exports (
  user_id         uuid primary key references gateway.users,
  -- Only the session that asked for it gets it.
  session_id      uuid not null references gateway.sessions,
  requested_at    timestamptz not null default now(),
  made_at         timestamptz,
  attempts        int not null default 0,
  next_attempt_at timestamptz not null default now(),
  -- Whose claim it is: what a gateway makes after its claim has run out is not stored.
  claim           uuid
);
create index exports_waiting on gateway.exports (next_attempt_at) where made_at is null;
create index exports_by_time on gateway.exports (requested_at);

-- One JSON document in pieces, each encrypted under the user's key.
create table gateway.export_parts (
  user_id uuid not null references gateway.exports on delete cascade,
  part    int not null,
  cipher  bytea not null,
  primary key (user_id, part)
);

grant select, insert, update, delete on gateway.exports, gateway.export_parts to gateway;
