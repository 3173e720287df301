-- A new PIN without the old one: by a mailed code, while signed in.

-- The newest code of each user. Six digits are soon guessed from a hash, so this one is keyed by the PINs' pepper.
create table gateway.pin_resets (
  user_id      uuid primary key references gateway.users,
  -- Names the code: what follows from its use is done once.
  id           uuid not null,
  pepper_id    text not null,
  hash         bytea not null check (length(hash) = 32),
  -- Tries with this code, counted before they are looked at.
  attempts     int not null default 0 check (attempts >= 0),
  expires_at   timestamptz not null,
  used_at      timestamptz,
  -- So many codes were asked for since then: together with the tries of each they bound the guesses of a day.
  asked        int not null default 1,
  asked_since  timestamptz not null default now(),
  -- Whether freezes after wrong PINs are still to be lifted for it.
  unfreeze_due boolean not null default false
);
create index pin_resets_due on gateway.pin_resets (used_at) where unfreeze_due;

grant select, insert, update on gateway.pin_resets to gateway;
