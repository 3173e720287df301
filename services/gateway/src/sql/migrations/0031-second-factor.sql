-- The second factor of a sign-in: one-time codes of an authenticator (RFC 6238), and recovery codes.

create table gateway.second_factors (
  user_id       uuid primary key references gateway.users,
  -- What makes the codes, under the service's key `key_id` and bound to the user.
  key_id        text not null,
  sealed_secret bytea not null,
  made_at       timestamptz not null default now(),
  -- Null while it is only offered: sign-in asks for it once a code has shown that the user has it.
  enabled_at    timestamptz,
  -- The 30-second step of the newest code that was taken: neither it nor an earlier one is taken again.
  last_step     bigint not null default 0,
  -- Tries that were begun and not followed by a right one; counted before they are looked at.
  attempts      int not null default 0 check (attempts >= 0),
  locked_until  timestamptz,
  -- Locks since the last right code: each is longer than the one before.
  locks         int not null default 0
);

-- Each stands in for a code once. 80 random bits, hashed with the pepper.
create table gateway.recovery_codes (
  user_id   uuid not null references gateway.users,
  pepper_id text not null,
  hash      bytea not null check (length(hash) = 32),
  used_at   timestamptz,
  primary key (user_id, hash)
);

-- Sign-ins whose first step is done. Only the SHA-256 of the token is kept.
create table gateway.login_challenges (
  hash       bytea primary key check (length(hash) = 32),
  user_id    uuid not null references gateway.users,
  -- What the first step proved (a digest of the password's hash): worthless once that has changed.
  proven     bytea not null,
  expires_at timestamptz not null,
  used_at    timestamptz
);
create index login_challenges_of_user on gateway.login_challenges (user_id);

grant select, insert, update, delete on gateway.second_factors, gateway.recovery_codes, gateway.login_challenges
  to gateway;
