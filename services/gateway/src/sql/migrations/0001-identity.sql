-- Accounts, sessions and PINs. The service's role may not delete people or sessions: they end, they do not vanish.

grant usage on schema gateway to gateway;

create table gateway.users (
  id                uuid primary key,
  email             text not null unique check (email = lower(email)),
  full_name         text not null,
  password_hash     text not null,
  email_verified_at timestamptz,
  disabled_at       timestamptz,
  roles             text[] not null default '{user}',
  created_at        timestamptz not null default now()
);

-- Tokens that were mailed; only their SHA-256 is kept, so that reading this table signs nobody in.
create table gateway.mailed_tokens (
  hash       bytea primary key check (length(hash) = 32),
  user_id    uuid not null references gateway.users,
  purpose    text not null check (purpose in ('verify_email')),
  expires_at timestamptz not null,
  used_at    timestamptz
);

create table gateway.sessions (
  id           uuid primary key,
  user_id      uuid not null references gateway.users,
  started_at   timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  expires_at   timestamptz not null,
  ended_at     timestamptz,
  end_reason   text,
  -- What the client calls itself, readable with the person's key only.
  device       bytea,
  check ((ended_at is null) = (end_reason is null))
);
create index sessions_open_of_user on gateway.sessions (user_id, id) where ended_at is null;
-- What Redis has to know of: sessions that ended while an access token of theirs may still be good.
create index sessions_ended on gateway.sessions (ended_at) where ended_at is not null;

-- All refresh tokens of a session are one family. A used one keeps the salt from which its successor was made.
create table gateway.refresh_tokens (
  hash           bytea primary key check (length(hash) = 32),
  session_id     uuid not null references gateway.sessions,
  issued_at      timestamptz not null default now(),
  used_at        timestamptz,
  successor_salt bytea,
  check ((used_at is null) = (successor_salt is null))
);
create index refresh_tokens_of_session on gateway.refresh_tokens (session_id);

create table gateway.pins (
  user_id      uuid primary key references gateway.users,
  pepper_id    text not null,
  hash         text not null,
  -- Tries that were begun and not followed by a right one; counted before hashing.
  attempts     int not null default 0 check (attempts >= 0),
  locked_until timestamptz,
  set_at       timestamptz not null default now()
);

-- One key for each person, wrapped. Deleting the row makes everything written under the key unreadable for good.
create table gateway.person_keys (
  user_id     uuid primary key references gateway.users,
  wrapped_key bytea not null,
  kek_id      text not null
);

grant select, insert, update on gateway.users, gateway.mailed_tokens, gateway.sessions, gateway.refresh_tokens,
  gateway.pins to gateway;
grant select, insert, delete on gateway.person_keys to gateway;
