-- The ledger's tables. The fewest columns and indexes that the reads need: every one is paid for by each transfer.
-- The service's role may change wallets, positions and the published mark; history can only be added to.

create table ledger.wallets (
  id         uuid primary key,
  -- Null for a system wallet, which has a name instead: external:USD:03 (the outside world), suspense:USD:03.
  user_id    uuid,
  system     text unique,
  code       text unique,
  currency   text not null,
  status     text not null default 'active' check (status in ('active', 'frozen', 'closed')),
  freeze_source text check (freeze_source in ('self', 'pin', 'staff')),
  balance    bigint not null default 0,
  held       bigint not null default 0 check (held >= 0),
  -- How many entries the wallet has; the last one's number.
  sequence   bigint not null default 0,
  opened_at  timestamptz not null,
  closed_at  timestamptz,
  check ((user_id is null) = (system is not null)),
  check ((user_id is null) = (code is null)),
  check ((status = 'frozen') = (freeze_source is not null)),
  -- M3, the second wall: the first is decide.
  check (system is not null or balance - held >= 0),
  check (balance between -9007199254740990 and 9007199254740990)
) with (fillfactor = 70);
-- Room in the pages keeps balance updates in place (HOT): nothing that a transfer changes is indexed.

create unique index wallets_one_open_per_currency on ledger.wallets (user_id, currency) where status <> 'closed';
create index wallets_of_user on ledger.wallets (user_id) where user_id is not null;

create table ledger.transfers (
  id            uuid primary key,
  type          text not null,
  status        text not null check (status in ('completed', 'rejected')),
  user_id       uuid not null,
  from_wallet   uuid,
  from_sequence bigint,
  to_wallet     uuid,
  to_sequence   bigint,
  amount        bigint not null,
  currency      text not null,
  fingerprint   bytea not null,
  note          bytea,
  metadata      bytea,
  requested_at  timestamptz not null,
  decided_at    timestamptz not null,
  rejection_code   text,
  rejection_detail text,
  -- Where the outcome stands in the journal: what a repeated command is answered with.
  partition     smallint not null,
  seq           bigint not null,
  check ((status = 'rejected') = (rejection_code is not null))
);
create index transfers_rejected_of_user on ledger.transfers (user_id, decided_at, id) where status = 'rejected';

create table ledger.entries (
  wallet_id     uuid not null,
  sequence      bigint not null check (sequence > 0),
  transfer_id   uuid not null,
  amount        bigint not null check (amount <> 0),
  balance_after bigint not null,
  primary key (wallet_id, sequence)
);

-- What was decided under an id that is no transfer (0002: under any id): one id, one outcome.
create table ledger.commands (
  id          uuid primary key,
  fingerprint bytea not null,
  partition   smallint not null,
  seq         bigint not null
);

-- The outbox: append-only, seq without a gap for each partition, never marked or deleted. The bytes of every event
-- ever decided are here, for repeats and for the day that Kafka is lost.
create table ledger.journal (
  partition smallint not null,
  seq       bigint not null check (seq > 0),
  key       text not null,
  headers   text not null,
  bytes     bytea not null,
  primary key (partition, seq)
);

-- One row for each partition of ledger.commands; its lock is the fence (X1).
create table ledger.partitions (
  partition   smallint primary key,
  epoch       integer not null default 0,
  next_offset bigint not null default 0,
  -- SHA-256 of the record before next_offset: tells this topic from another of the same name.
  last_digest bytea,
  next_seq    bigint not null default 1
) with (fillfactor = 50);

-- Apart from the fence, so that the relay never waits for a batch.
create table ledger.published (
  partition         smallint primary key,
  published_through bigint not null default 0
) with (fillfactor = 50);

grant usage on schema ledger to ledger;
grant select, insert on all tables in schema ledger to ledger;
grant update on ledger.wallets, ledger.partitions, ledger.published to ledger;
revoke all on ledger.migrations from ledger;

-- What others may read. Columns may be added, none renamed.
create schema ledger_api;

create view ledger_api.wallets as
  select id, user_id, system, code, currency, status, freeze_source, balance, balance - held as available, sequence,
         opened_at, closed_at
  from ledger.wallets;

create view ledger_api.transfers as
  select id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount, currency, fingerprint,
         note, metadata, requested_at, decided_at, rejection_code, rejection_detail
  from ledger.transfers;

create view ledger_api.entries as
  select wallet_id, sequence, transfer_id, amount, balance_after from ledger.entries;

create view ledger_api.journal as
  select partition, seq, key, headers, bytes from ledger.journal;

grant usage on schema ledger_api to ledger_reader;
grant select on all tables in schema ledger_api to ledger_reader;
