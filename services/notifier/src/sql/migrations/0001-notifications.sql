-- In-app notifications, mails on their way, and how far each partition has been handled.

create table notifier.positions (
  topic text not null,
  partition int not null,
  next_offset bigint not null check (next_offset >= 0),
  primary key (topic, partition)
) with (fillfactor = 50);

-- The id is derived from transfer, user and type: an event that comes again adds nothing. Names are never stored.
create table notifier.notifications (
  id uuid primary key,
  user_id uuid not null,
  type text not null,
  title text not null,
  body text not null,
  transfer_id uuid,
  read_at timestamptz,
  -- When it happened by the ledger's clock, to the millisecond, so that a cursor made from it is exact.
  created_at timestamptz not null
);
create index notifications_newest_first on notifier.notifications (user_id, created_at desc, id desc);
create index notifications_unread on notifier.notifications (user_id) where read_at is null;

create table notifier.deliveries (
  command_id uuid primary key,
  user_id uuid not null,
  template text not null,
  -- As it came: readable only with the notifier's private key. Kept no longer than it is needed.
  secret text,
  state text not null default 'due' check (state in ('due', 'sent', 'expired', 'failed')),
  attempts int not null default 0,
  next_attempt_at timestamptz not null default now(),
  -- A code, never a server's own text: that may name the address.
  last_error text,
  requested_at timestamptz not null,
  expires_at timestamptz not null,
  sent_at timestamptz,
  check ((secret is not null) = (state = 'due')),
  check ((sent_at is not null) = (state = 'sent'))
);
create index deliveries_due on notifier.deliveries (next_attempt_at) where state = 'due';

create schema notifier_api;
create view notifier_api.notifications as
  select id, user_id, type, title, body, transfer_id, read_at, created_at from notifier.notifications;

grant usage on schema notifier to notifier;
grant select, insert, update on notifier.positions to notifier;
grant select, insert on notifier.notifications to notifier;
grant select, insert, update on notifier.deliveries to notifier;

grant usage on schema notifier_api to notifier_reader;
grant select on notifier_api.notifications to notifier_reader;
