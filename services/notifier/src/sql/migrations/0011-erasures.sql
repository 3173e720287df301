-- Users who are erased: their ids alone, so that what comes late about them is cleared as well.

create table notifier.erasures (
  user_id   uuid primary key,
  erased_at timestamptz not null default now()
);
create index erasures_by_time on notifier.erasures (erased_at);

-- What is to go out to one user. Webhooks are found by their endpoints.
create index deliveries_of_user on notifier.deliveries (user_id) where endpoint_id is null;

grant select, insert on notifier.erasures to notifier;
grant delete on notifier.inboxes, notifier.preferences, notifier.webhook_endpoints to notifier;

-- The address of a changed endpoint, for the notice that its owner gets: by the change's name, until the event is handled.
-- Events hold the address of a user's webhook as ciphertext alone, because topics keep what they hold.
create table notifier.changed_urls (
  id         uuid primary key,
  owner_id   uuid not null,
  url        text not null,
  changed_at timestamptz not null default now()
);
create index changed_urls_of_owner on notifier.changed_urls (owner_id);
create index changed_urls_by_time on notifier.changed_urls (changed_at);
grant select, delete on notifier.changed_urls to notifier;

create or replace function notifier.tell_webhook_change() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
  said jsonb := coalesce(nullif(current_setting('pennywire.change', true), ''), '{}')::jsonb;
  one notifier.webhook_endpoints;
  changed text[] := '{}';
  change uuid := gen_random_uuid();
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
    (id, kind, endpoint_id, owner_id, url, event_types, state, changed, by_user_id, reason, staff_reason)
  values (
    change, case tg_op when 'INSERT' then 'added' when 'UPDATE' then 'changed' else 'removed' end,
    one.id, one.owner_id, one.url, one.event_types, one.state, changed,
    (said->>'byUserId')::uuid, said->>'reason', decode(said->>'staffReason', 'base64'));
  if one.owner_id is not null then
    insert into notifier.changed_urls (id, owner_id, url) values (change, one.owner_id, one.url);
  end if;
  return null;
end $$;

-- An erased user's webhooks end with the user: a change of each would tell their addresses once more.
drop trigger tell_webhook_change on notifier.webhook_endpoints;
create trigger tell_webhook_change
  after insert or update of url, secrets, event_types, description, state on notifier.webhook_endpoints
  for each row execute function notifier.tell_webhook_change();
create trigger tell_webhook_removal
  after delete on notifier.webhook_endpoints for each row
  when ((coalesce(nullif(current_setting('pennywire.change', true), ''), '{}')::jsonb->>'reason') is distinct from 'erased')
  execute function notifier.tell_webhook_change();
