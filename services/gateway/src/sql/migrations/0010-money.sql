-- Requests whose client was answered before the ledger's decision was known: so that their owner can ask.
create table gateway.pending_requests (
  transfer_id  uuid primary key,
  user_id      uuid not null,
  type         text not null,
  from_wallet  uuid,
  to_wallet    uuid,
  amount       bigint not null,
  currency     text not null,
  fingerprint  bytea not null,
  note         bytea,
  metadata     bytea,
  requested_at timestamptz not null,
  expires_at   timestamptz not null,
  -- Whether Kafka has it for certain: then the ledger will decide it, however late.
  acknowledged boolean not null
);

-- Money between users and the outside world, by the payment provider. The ledger keeps only what it decided.
create table gateway.payments (
  -- The transfer's id, and the provider's idempotency key.
  id           uuid primary key,
  kind         text not null check (kind in ('deposit')),
  user_id      uuid not null,
  wallet_id    uuid not null,
  amount       bigint not null check (amount > 0),
  currency     text not null,
  -- Where the money comes from, as the user wrote it: only as ciphertext.
  method       bytea not null,
  fingerprint  bytea not null,
  status       text not null default 'created' check (status in ('created', 'pending', 'confirmed', 'failed')),
  provider_reference text,
  failure_reason     text,
  requested_at timestamptz not null,
  updated_at   timestamptz not null
);

grant select, insert, update on gateway.pending_requests, gateway.payments to gateway;
