-- Where each user has signed in from: guesses of strangers do not count against who is known there.

create table gateway.familiar_addresses (
  user_id      uuid not null references gateway.users,
  -- A keyed hash: it tells the same address again, and nothing else.
  address_hash text not null,
  -- Since the user showed there that they have the mailbox, or signed in there first: earlier tries count no more.
  known_since  timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  primary key (user_id, address_hash)
);
create index familiar_addresses_by_time on gateway.familiar_addresses (last_used_at);

grant select, insert, update, delete on gateway.familiar_addresses to gateway;
