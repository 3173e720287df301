-- Payments in both directions, and what is left to do for each.
alter table gateway.payments
  drop constraint payments_kind_check,
  add constraint payments_kind_check check (kind in ('deposit', 'withdrawal')),
  drop constraint payments_status_check,
  -- created: not ordered yet, as far as is known; pending: the provider has it; then the provider's word. A payout
  -- that was confirmed may come back: returned.
  add constraint payments_status_check
    check (status in ('created', 'pending', 'confirmed', 'failed', 'returned') and (kind = 'withdrawal' or status <> 'returned')),
  -- Why it failed, as a problem code: PAYMENT_FAILED where the provider refused it, else the ledger's.
  add column failure_code text,
  -- How the user proved to be present, and until when the ledger may take the request: of withdrawals.
  add column authenticated_by text,
  add column authenticated_at timestamptz,
  add column expires_at timestamptz,
  -- The ledger has booked what the provider said, or there is nothing to book: nobody needs to look at it any more.
  add column done_at timestamptz,
  -- When the worker looks at it next, which finishes what a request or a callback has left; and how often it has.
  add column next_look_at timestamptz not null default now(),
  add column looks integer not null default 0;

update gateway.payments set done_at = updated_at where status = 'failed';
update gateway.payments set failure_code = 'PAYMENT_FAILED' where status = 'failed';

create index payments_to_look_at on gateway.payments (next_look_at) where done_at is null;
-- What counts against a wallet's limits and is not in the ledger's counters yet.
create index payments_undone_of_wallet on gateway.payments (wallet_id) where done_at is null;

-- One deposit of a wallet at a time is held against its limits: the row is locked meanwhile.
create table gateway.deposit_turns (
  wallet_id uuid primary key
);

grant select, insert, update on gateway.deposit_turns to gateway;
