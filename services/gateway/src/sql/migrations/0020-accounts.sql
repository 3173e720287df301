-- New passwords by mail, deactivation, and the history of sign-ins.

alter table gateway.mailed_tokens
  drop constraint mailed_tokens_purpose_check,
  add constraint mailed_tokens_purpose_check check (purpose in ('verify_email', 'reset_password')),
  add column issued_at timestamptz not null default now();
create index mailed_tokens_of_user on gateway.mailed_tokens (user_id, purpose, issued_at);
create index mailed_tokens_expired on gateway.mailed_tokens (expires_at);

alter table gateway.users
  add column disabled_source text check (disabled_source in ('self', 'staff')),
  -- Why, in words, under the person's key.
  add column disabled_reason bytea;
-- Staff look people up by the beginning of the address, and page through them in its order.
create index users_by_email on gateway.users (email collate "C");

-- Every try to sign in to an account, as its owner reads it. Where from and with what is under the person's key.
create table gateway.logins (
  id          uuid primary key,
  user_id     uuid not null references gateway.users,
  occurred_at timestamptz not null default now(),
  -- How it was tried: password, second_factor, external, ...
  method      text not null,
  -- Null where it succeeded.
  failure     text,
  session_id  uuid references gateway.sessions,
  address     bytea,
  device      bytea,
  check ((failure is null) = (session_id is not null))
);
create index logins_of_user on gateway.logins (user_id, id);
create index logins_by_time on gateway.logins (occurred_at);

grant select, insert, delete on gateway.logins to gateway;
-- What has expired is purged.
grant delete on gateway.mailed_tokens, gateway.refresh_tokens to gateway;
