-- Notices as data: words are put to them when they are read, in the reader's language. Each user has one numbered list.

-- The version before may add meanwhile: it waits, so that no notification is missed by the copy. Readers go on.
lock table notifier.notifications in share row exclusive mode;

create table notifier.inboxes (
  user_id uuid primary key,
  -- Of the newest notice: one more for each, without a gap, in the order of the commits.
  last_seq bigint not null default 0,
  unread bigint not null default 0 check (unread >= 0),
  -- Up to here all are read.
  read_to bigint not null default 0
) with (fillfactor = 50);

create table notifier.notices (
  user_id uuid not null,
  seq bigint not null,
  -- Derived from what it is about, user and type: an event that comes again adds nothing.
  id uuid not null unique,
  type text not null,
  -- What its words are made of. Names are never stored, but ids that they are looked up by.
  data jsonb,
  about_user_id uuid,
  transfer_id uuid,
  -- The words of notices that were stored before there were others.
  title text,
  body text,
  read_at timestamptz,
  -- When it happened by the clock of the event's writer.
  created_at timestamptz not null,
  primary key (user_id, seq),
  check (data is not null or (title is not null and body is not null))
);
-- For the purge: rows are added in the order of time, and an index by BRIN costs them nothing.
create index notices_by_time on notifier.notices using brin (created_at) with (autosummarize = on);

insert into notifier.notices (user_id, seq, id, type, title, body, transfer_id, read_at, created_at)
  select user_id, row_number() over (partition by user_id order by created_at, id), id, type, title, body, transfer_id, read_at, created_at
  from notifier.notifications;
insert into notifier.inboxes (user_id, last_seq, unread)
  select user_id, max(seq), count(*) filter (where read_at is null) from notifier.notices group by user_id;

-- The version before this one may still run: what it adds goes into the new list.
create function notifier.add_as_notice() returns trigger language plpgsql as $$
declare
  next bigint;
begin
  if exists (select from notifier.notices where id = new.id) then return null; end if;
  insert into notifier.inboxes as i (user_id, last_seq, unread) values (new.user_id, 1, 1)
    on conflict (user_id) do update set last_seq = i.last_seq + 1, unread = i.unread + 1
    returning last_seq into next;
  insert into notifier.notices (user_id, seq, id, type, title, body, transfer_id, created_at)
    values (new.user_id, next, new.id, new.type, new.title, new.body, new.transfer_id, new.created_at);
  return null;
end $$;
delete from notifier.notifications;
create trigger add_as_notice before insert on notifier.notifications
  for each row execute function notifier.add_as_notice();

-- What a user chose: a language, and what they are told by which channel, as `kind:channel`. Nobody has to choose.
create table notifier.preferences (
  user_id uuid primary key,
  language text,
  turned_on text[] not null default '{}',
  turned_off text[] not null default '{}'
);

-- A topic that is read since an upgrade: what happened before it is nobody's news any more. None on a new installation.
create table notifier.topic_starts (
  topic text primary key,
  since timestamptz not null
);
insert into notifier.topic_starts (topic, since)
  select 'identity.events', now() where exists (select from notifier.positions);

create or replace view notifier_api.notifications as
  select id, user_id, type, coalesce(title, type) as title, coalesce(body, '') as body, transfer_id, read_at, created_at
  from notifier.notices;
create view notifier_api.notices as
  select user_id, seq, id, type, data, about_user_id, transfer_id, title, body, read_at, created_at
  from notifier.notices;
create view notifier_api.inboxes as select user_id, last_seq, unread, read_to from notifier.inboxes;
create view notifier_api.preferences as
  select user_id, language, turned_on, turned_off from notifier.preferences;

grant select, insert, delete on notifier.notices to notifier;
grant select, insert, update on notifier.inboxes to notifier;
grant select on notifier.preferences, notifier.topic_starts to notifier;

grant usage on schema notifier_api to notifier_client;
-- Users read, and mark as read, by way of the gateway; they choose there as well.
grant select, update (read_at) on notifier_api.notices to notifier_client;
grant select, update (unread, read_to) on notifier_api.inboxes to notifier_client;
grant select, insert, update on notifier_api.preferences to notifier_client;
