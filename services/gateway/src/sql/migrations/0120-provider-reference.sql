-- Staff find a payment by the reference that the provider tells on the telephone.
create index payments_by_provider_reference on gateway.payments (provider_reference)
  where provider_reference is not null;
