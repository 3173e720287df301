-- Sign-in through OpenID Connect providers.

-- An account that came by a provider has no password until its owner sets one, by mail.
alter table gateway.users
  alter column password_hash drop not null,
  -- When a later sign-up took over the account that nobody had verified; null where none did.
  add column replaced_at timestamptz;

-- A sign-in that is on its way through a provider. Of what binds it to the browser and the provider only hashes are
-- here: the cookie holds the secret from which nonce and PKCE verifier follow.
create table gateway.oidc_requests (
  state_hash   bytea primary key check (length(state_hash) = 32),
  browser_hash bytea not null check (length(browser_hash) = 32),
  provider     text not null,
  return_to    text,
  -- Who links the identity, while which session is open; null where somebody signs in.
  user_id      uuid references gateway.users,
  session_id   uuid references gateway.sessions,
  expires_at   timestamptz not null,
  check ((user_id is null) = (session_id is null))
);
create index oidc_requests_expired on gateway.oidc_requests (expires_at);

grant select, insert, delete on gateway.oidc_requests to gateway;
