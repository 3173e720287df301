-- Keys with which a user's own programs call the API in the user's name.

create table gateway.api_keys (
  -- UUIDv7: in the order in which they were made.
  id                  uuid primary key,
  user_id             uuid not null references gateway.users,
  -- What the user calls it, readable with the person's key only.
  name                bytea not null,
  -- The readable beginning of the key, by which it is recognised.
  prefix              text not null,
  -- SHA-256 of the whole key, which has 256 random bits: reading this table gives nobody a key.
  secret_hash         bytea not null unique check (length(secret_hash) = 32),
  scopes              text[] not null check (cardinality(scopes) > 0),
  -- The most that it moves at once, in major units of whatever currency; null: no limit of its own.
  max_amount          numeric check (max_amount > 0),
  -- Requests of its own within a minute; null: as the setting says.
  requests_per_minute int check (requests_per_minute > 0),
  created_at          timestamptz not null default now(),
  expires_at          timestamptz not null check (expires_at > created_at),
  last_used_at        timestamptz,
  -- From then on it is good for nothing; to come, while a rotation leaves time to change it everywhere.
  ended_at            timestamptz,
  end_reason          text,
  -- Unique: a key is replaced once.
  replaces            uuid unique references gateway.api_keys,
  check ((ended_at is null) = (end_reason is null))
);
create index api_keys_of_user on gateway.api_keys (user_id, id);

-- They end, they do not vanish: what was done by a key can be traced to it.
grant select, insert, update on gateway.api_keys to gateway;
