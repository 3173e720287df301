-- Persons who are erased, and those who asked for it.

create table gateway.erasures (
  user_id      uuid primary key references gateway.users,
  -- Names the erasure: the wallets are closed under ids made of it.
  id           uuid not null,
  source       text not null check (source in ('self', 'staff', 'command')),
  by_user_id   uuid,
  -- What staff wrote about it, under the key of the member of staff: the person's own is destroyed.
  reason       bytea,
  requested_at timestamptz not null default now(),
  due_at       timestamptz not null,
  -- When a gateway looks at it next.
  look_at      timestamptz not null,
  -- How often wallets were asked to close: a refusal stands for ever under the id of its attempt.
  attempt      int not null default 0,
  -- What stood in the way at the last look: codes, ids and amounts.
  blocked      jsonb,
  erased_at    timestamptz,
  -- When everything was cleared once more, after the caches of all gateways had ended.
  checked_at   timestamptz
);
create index erasures_to_look_at on gateway.erasures (look_at) where checked_at is null;

-- An erased person stays erased, whatever a request that began before writes, and the version before this one as well.
-- Nobody is erased yet, so that no row needs to be looked at.
alter table gateway.users
  add column erased_at timestamptz,
  add constraint users_erased check (
    erased_at is null or (
      email = id::text || '@erased.invalid' and full_name = '' and password_hash is null and email_verified_at is null
      and signup_network_hash is null and disabled_at is not null and disabled_reason is null and roles = '{user}')
  ) not valid;

grant select, insert, update, delete on gateway.erasures to gateway;
-- What is cleared with its person.
grant delete on gateway.pins, gateway.pin_resets to gateway;
create index pending_requests_of_person on gateway.pending_requests (user_id);
