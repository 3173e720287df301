-- Receipts that users have asked for: they wait for a gateway to render them, and are kept for a day.

create table gateway.receipts (
  transfer_id     uuid not null,
  user_id         uuid not null references gateway.users,
  language        text not null,
  requested_at    timestamptz not null default now(),
  -- The PDF, encrypted under the user's key: it holds names. Null while it waits.
  pdf             bytea,
  attempts        int not null default 0,
  next_attempt_at timestamptz not null default now(),
  -- Whose claim it is: what a gateway has rendered after its claim has run out changes nothing any more.
  claim           uuid,
  primary key (transfer_id, user_id)
);
create index receipts_waiting on gateway.receipts (next_attempt_at) where pdf is null;
create index receipts_waiting_of_user on gateway.receipts (user_id) where pdf is null;
create index receipts_by_time on gateway.receipts (requested_at);

grant select, insert, update, delete on gateway.receipts to gateway;
