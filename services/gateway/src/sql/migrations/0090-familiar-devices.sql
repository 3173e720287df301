-- What each user has signed in with: a sign-in with something else, or from somewhere else, is told to them.

create table gateway.familiar_devices (
  user_id      uuid not null references gateway.users,
  -- A keyed hash of browser and system without their versions: it tells the same device again, and nothing else.
  device_hash  text not null,
  last_used_at timestamptz not null default now(),
  primary key (user_id, device_hash)
);
-- Whether a sign-in is the user's first.
create index sessions_of_user on gateway.sessions (user_id);
create index familiar_devices_by_time on gateway.familiar_devices (last_used_at);

grant select, insert, update, delete on gateway.familiar_devices to gateway;
