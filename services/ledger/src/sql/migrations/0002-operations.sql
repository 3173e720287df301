-- Everything that money can do beside transfers and deposits: holds, withdrawals, reversals, limits, freezes.

alter table ledger.wallets
  -- How well its owner is known: which limits hold where nobody set others.
  add column tier text not null default 'unverified' check (tier in ('unverified', 'verified')),
  -- What is used of the limits: {UTC day since 1970, sent that day, sent in its month, deposited that day and month,
  -- withdrawn that day and month}, in minor units. A period that is over counts as nothing: no job resets it.
  add column usage bigint[] not null default '{}',
  -- Why it is frozen, only as ciphertext.
  add column freeze_reason bytea;

alter table ledger.transfers
  add column rejection_limit bigint,
  add column rejection_used bigint,
  -- Of a reversal: the transfer that it gives back.
  add column original_id uuid;

-- Money promised and not yet moved. A hold ends once: the ledger changes only active ones.
create table ledger.holds (
  id           uuid primary key,
  type         text not null check (type in ('hold', 'withdrawal')),
  status       text not null default 'active' check (status in ('active', 'captured', 'voided', 'expired')),
  user_id      uuid not null,
  wallet_id    uuid not null,
  -- Null for a withdrawal, which goes to the outside world.
  to_wallet    uuid,
  amount       bigint not null check (amount > 0),
  currency     text not null,
  fingerprint  bytea not null,
  note         bytea,
  metadata     bytea,
  requested_at timestamptz not null,
  placed_at    timestamptz not null,
  hold_until   timestamptz,
  captured     bigint check (captured between 0 and amount),
  -- The command that ended it.
  end_command  uuid unique,
  ended_at     timestamptz,
  check ((type = 'withdrawal') = (to_wallet is null)),
  check ((status = 'active') = (end_command is null)),
  check ((status = 'active') = (ended_at is null)),
  check ((status = 'captured') = (coalesce(captured, 0) > 0))
) with (fillfactor = 80);
create index holds_of_wallet on ledger.holds (wallet_id, placed_at, id);
create index holds_for_wallet on ledger.holds (to_wallet, placed_at, id) where to_wallet is not null;
-- What the timer looks for.
create index holds_due on ledger.holds (hold_until) where status = 'active' and hold_until is not null;

-- What was given back of which transfer; never more in sum than it moved, which `decide` holds under the wallets' locks.
create table ledger.reversals (
  original_id uuid not null,
  transfer_id uuid not null unique,
  amount      bigint not null check (amount > 0),
  primary key (original_id, transfer_id)
);

-- Limits that somebody set for one wallet, by whom; all three null: none any more.
create table ledger.limits (
  wallet_id       uuid not null,
  action          text not null check (action in ('send', 'deposit', 'withdrawal')),
  source          text not null check (source in ('self', 'staff')),
  per_transaction bigint check (per_transaction >= 0),
  daily           bigint check (daily >= 0),
  monthly         bigint check (monthly >= 0),
  primary key (wallet_id, action, source)
);

-- The settings' defaults as the ledger that started last has them: for reading only, `decide` has its own.
create table ledger.limit_defaults (
  tier            text not null,
  currency        text not null,
  per_transaction bigint not null,
  daily           bigint not null,
  monthly         bigint not null,
  primary key (tier, currency)
);

-- Every decided id stands here once, whatever its kind: a transfer and the capture of a hold may come with one id in two
-- partitions at one moment, and only one unique key can let one of them wait for the other.
insert into ledger.commands (id, fingerprint, partition, seq)
select id, fingerprint, partition, seq from ledger.transfers;
comment on table ledger.commands is 'What was decided, by id: one id, one outcome';

grant select, insert on ledger.holds, ledger.reversals, ledger.limits, ledger.limit_defaults to ledger;
grant update on ledger.limits, ledger.limit_defaults to ledger;
-- Of a hold only how it ends: what was promised stays as it was.
grant update (status, captured, end_command, ended_at) on ledger.holds to ledger;

create or replace view ledger_api.wallets as
  select id, user_id, system, code, currency, status, freeze_source, balance, balance - held as available, sequence,
         opened_at, closed_at, held, tier, usage, freeze_reason
  from ledger.wallets;

create or replace view ledger_api.transfers as
  select id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount, currency, fingerprint,
         note, metadata, requested_at, decided_at, rejection_code, rejection_detail, rejection_limit, rejection_used,
         original_id
  from ledger.transfers;

create view ledger_api.holds as
  select id, type, status, user_id, wallet_id, to_wallet, amount, currency, fingerprint, note, metadata, requested_at,
         placed_at, hold_until, captured, ended_at, end_command
  from ledger.holds;

create view ledger_api.reversals as
  select original_id, transfer_id, amount from ledger.reversals;

create view ledger_api.limits as
  select wallet_id, action, source, per_transaction, daily, monthly from ledger.limits;

create view ledger_api.limit_defaults as
  select tier, currency, per_transaction, daily, monthly from ledger.limit_defaults;

-- Where a command's outcome stands in the journal.
create view ledger_api.commands as
  select id, fingerprint, partition, seq from ledger.commands;

-- How many entries a wallet had at a moment: the greatest sequence decided by then. Entries of one wallet are decided
-- in the order of their sequence (under the wallet's lock, by one clock), so that halving finds it in a few steps.
create function ledger_api.sequence_at(wallet uuid, moment timestamptz) returns bigint
language plpgsql stable security definer set search_path = '' as $$
declare
  low  bigint := 0;
  high bigint := coalesce((select sequence from ledger.wallets where id = wallet), 0);
  middle bigint;
begin
  while low < high loop
    middle := (low + high + 1) / 2;
    if (select t.decided_at from ledger.entries e join ledger.transfers t on t.id = e.transfer_id
        where e.wallet_id = wallet and e.sequence = middle) <= moment then
      low := middle;
    else
      high := middle - 1;
    end if;
  end loop;
  return low;
end $$;
revoke all on function ledger_api.sequence_at(uuid, timestamptz) from public;

grant select on all tables in schema ledger_api to ledger_reader;
grant execute on function ledger_api.sequence_at(uuid, timestamptz) to ledger_reader;
