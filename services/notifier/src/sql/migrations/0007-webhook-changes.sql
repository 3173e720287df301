-- What becomes of endpoints is told: each change leaves a row here in its own transaction, whoever made it, and a gateway
-- moves it to the outbox of its database, as an event of identity.events.

create table notifier.webhook_changes (
  -- Names the event: one that is moved twice is one event.
  id uuid primary key default gen_random_uuid(),
  seq bigint generated always as identity,
  kind text not null check (kind in ('added', 'changed', 'removed')),
  endpoint_id uuid not null,
  owner_id uuid,
  url text not null,
  event_types text[] not null,
  state text not null,
  -- Of a change: url, secret, eventTypes, description, state.
  changed text[] not null,
  by_user_id uuid,
  reason text,
  -- What staff wrote, encrypted under the key of the endpoint's owner.
  staff_reason bytea,
  changed_at timestamptz not null default now()
);
create index webhook_changes_in_order on notifier.webhook_changes (seq);

-- Since when its owner wants it: an account that ended before does not pause it.
alter table notifier.webhook_endpoints add column turned_on_at timestamptz not null default now();

-- By a trigger, so that no statement can forget it, nor the version before this one. Who did it and why is what the
-- transaction says in `pennywire.change`: {"byUserId", "reason", "staffReason" (base64)}, each or all missing.
-- As its owner: a client of the views may change endpoints and cannot write what is told of it.
create function notifier.tell_webhook_change() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
  said jsonb := coalesce(nullif(current_setting('pennywire.change', true), ''), '{}')::jsonb;
  one notifier.webhook_endpoints;
  changed text[] := '{}';
begin
  if tg_op = 'DELETE' then one := old; else one := new; end if;
  if tg_op = 'UPDATE' then
    -- A new secret gives the others an end. One that is sealed anew under another key is the same secret.
    changed := array_remove(array[
      case when new.url <> old.url then 'url' end,
      case when jsonb_path_query_array(new.secrets, '$[*].expiresAt') <> jsonb_path_query_array(old.secrets, '$[*].expiresAt') then 'secret' end,
      case when new.event_types <> old.event_types then 'eventTypes' end,
      case when new.description is distinct from old.description then 'description' end,
      case when new.state <> old.state then 'state' end], null);
    if changed = '{}' then return null; end if;
  end if;
  insert into notifier.webhook_changes
    (kind, endpoint_id, owner_id, url, event_types, state, changed, by_user_id, reason, staff_reason)
  values (
    case tg_op when 'INSERT' then 'added' when 'UPDATE' then 'changed' else 'removed' end,
    one.id, one.owner_id, one.url, one.event_types, one.state, changed,
    (said->>'byUserId')::uuid, said->>'reason', decode(said->>'staffReason', 'base64'));
  return null;
end $$;
create trigger tell_webhook_change
  after insert or delete or update of url, secrets, event_types, description, state on notifier.webhook_endpoints
  for each row execute function notifier.tell_webhook_change();

create or replace view notifier_api.webhook_endpoints as
  select id, owner_id, url, description, event_types, secrets, state, created_at, failing_since, failures, next_attempt_at,
    claim, claimed_until, turned_on_at
  from notifier.webhook_endpoints;
create view notifier_api.webhook_changes as
  select id, seq, kind, endpoint_id, owner_id, url, event_types, state, changed, by_user_id, reason, staff_reason, changed_at
  from notifier.webhook_changes;
grant select, delete on notifier_api.webhook_changes to notifier_client;
