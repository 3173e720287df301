-- Whether a session was opened with the second factor, or turned it on itself. Only such a session's tokens carry the
-- roles of staff. Sessions of before were not asked, so staff sign in once more.
alter table gateway.sessions add column second_factor boolean not null default false;

-- Tokens of other issuers that have signed somebody in: each is good once. Only the SHA-256 is kept, and only until the
-- token has expired.
create table gateway.spent_external_tokens (
  hash       bytea primary key check (length(hash) = 32),
  expires_at timestamptz not null
);
grant select, insert, delete on gateway.spent_external_tokens to gateway;
