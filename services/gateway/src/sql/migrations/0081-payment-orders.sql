-- An order to the payment provider is marked before it is sent: a refusal is final only where no earlier order of the
-- payment can still arrive.
alter table gateway.payments
  drop constraint payments_status_check,
  -- ordering: an order may be with the provider, which alone says what became of it.
  add constraint payments_status_check
    check (status in ('created', 'ordering', 'pending', 'confirmed', 'failed', 'returned')
      and (kind = 'withdrawal' or status <> 'returned')),
  add column ordered_at timestamptz,
  add column order_attempts integer not null default 0;

-- The version before orders without a mark. What it left `created` may have been ordered.
update gateway.payments set ordered_at = requested_at, order_attempts = 1, status = 'ordering'
where status = 'created' and kind = 'deposit';
update gateway.payments set ordered_at = requested_at where status = 'created' and kind = 'withdrawal';

-- Which request has a key, from just before it leaves the gateway until the ledger or gateway.payments knows it. The
-- table is unlogged: a claim lives as long as a command, and a write-ahead log would cost each transfer a flush.
create unlogged table gateway.key_claims (
  id          uuid primary key,
  fingerprint bytea not null,
  claimed_at  timestamptz not null default now()
);
create index key_claims_by_time on gateway.key_claims (claimed_at);

grant select, insert, update, delete on gateway.key_claims to gateway;

-- Pending requests are purged once nobody can ask for them but the ledger's outcome.
grant delete on gateway.pending_requests to gateway;
create index pending_requests_by_expiry on gateway.pending_requests (expires_at);
