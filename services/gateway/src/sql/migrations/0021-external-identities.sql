-- Who somebody is at another issuer, linked by themselves while signed in. The subject names them, never an address:
-- issuers may say of any address that it is verified, and give one that was freed to somebody else.
create table gateway.external_identities (
  id        uuid primary key,
  user_id   uuid not null references gateway.users,
  issuer    text not null,
  subject   text not null,
  linked_at timestamptz not null default now(),
  unique (issuer, subject)
);
create index external_identities_of_user on gateway.external_identities (user_id, id);

grant select, insert, delete on gateway.external_identities to gateway;
