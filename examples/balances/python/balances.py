"""Keeps every wallet's balance from the events alone, and checks that no entry is missing.

It has no code of Pennywire:
    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python balances.py --until-end
It prints JSON lines and ends with 0, with 1 if entries are missing, with 2 if it could not read.
"""

import argparse
import os
import signal
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

# The two events that contain entries: a hold moves nothing until it is captured.
MOVES_MONEY = {b"pennywire.ledger.TransferCompleted", b"pennywire.ledger.TransferReversed"}
POLL_SECONDS = 0.5
ANSWER_SECONDS = 30


class Wallet:
    def __init__(self, currency):
        self.currency = currency
        self.balance = 0
        self.sequence = 0  # of the entry with the balance
        self.through = 0  # every sequence from 1 to this one was seen
        self.ahead = set()  # seen beyond it: entries that a wallet receives may overtake each other

    def add(self, sequence, balance):
        """Returns "repeat", "newer" or "older"."""
        if sequence <= self.through or sequence in self.ahead:
            return "repeat"
        self.ahead.add(sequence)
        while self.through + 1 in self.ahead:
            self.through += 1
            self.ahead.remove(self.through)
        # The greater sequence wins.
        if sequence <= self.sequence:
            return "older"
        self.sequence, self.balance = sequence, balance
        return "newer"

    def missing(self, up_to):
        """How many entries up to this sequence were not seen."""
        return max(0, up_to - self.through) - sum(1 for sequence in self.ahead if sequence <= up_to)


def show(wallet_id, wallet):
    line = '{"walletId":"%s","currency":"%s","balance":"%d","sequence":%d}'
    print(line % (wallet_id, wallet.currency, wallet.balance, wallet.sequence), flush=True)


def connect():
    # Positions are never committed, so nothing is remembered under the group's name.
    config = {
        "bootstrap.servers": os.environ.get("KAFKA_BROKERS", "127.0.0.1:19092"),
        "group.id": "downstream-balances",
        "enable.auto.commit": False,
        "log_level": 2,  # faults are reported once, below
    }
    password_file = os.environ.get("KAFKA_SASL_PASSWORD_FILE")
    if password_file:
        with open(password_file, encoding="utf-8") as file:
            password = file.read().strip()
        config |= {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": os.environ.get("KAFKA_SASL_USERNAME", "downstream"),
            "sasl.password": password,
        }
    faults = {}
    config["error_cb"] = lambda error: faults.update(last=error)
    registry_url = os.environ.get("REGISTRY_URL", "http://127.0.0.1:18081/apis/ccompat/v7")
    # Without a schema of its own the deserializer reads each record as it was written: no field is unknown.
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry_url}))
    return Consumer(config), deserialize, faults


def find_ends(consumer, topic, faults):
    """By partition the offset of the first record, and the one at which the topic ends now."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            found = consumer.list_topics(topic, timeout=1).topics[topic]
            break
        except KafkaException as error:
            consumer.poll(0)  # hands over what error_cb is to be told
            fault = faults.get("last", error.args[0])
            if fault.code() == KafkaError._AUTHENTICATION or time.monotonic() > deadline:
                raise SystemError(fault.str()) from error
    if found.error:
        raise SystemError(found.error.str())
    ranges = {
        partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
        for partition in found.partitions
    }
    return {p: low for p, (low, _) in ranges.items()}, {p: high for p, (_, high) in ranges.items()}


def read(options):
    consumer, deserialize, faults = connect()
    positions, ends = find_ends(consumer, options.topic, faults)
    consumer.assign([TopicPartition(options.topic, partition, OFFSET_BEGINNING) for partition in positions])

    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))

    wallets = {}
    counts = {"records": 0, "repeat": 0, "newer": 0, "older": 0}
    # Of the wallets that lack entries at the end: the sequence up to which these must still come.
    awaited = None
    deadline = None
    while not stopped:
        if options.until_end and all(positions[partition] >= end for partition, end in ends.items()):
            if awaited is None:
                # The partitions were not cut at one moment: an entry may be there while one before it is under way.
                awaited = {key: wallet.sequence for key, wallet in wallets.items() if wallet.missing(wallet.sequence)}
                deadline = time.monotonic() + options.wait
            complete = not any(wallets[wallet_id].missing(up_to) for wallet_id, up_to in awaited.items())
            if complete or time.monotonic() >= deadline:
                break
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        if message.error():
            raise SystemError(message.error().str())
        positions[message.partition()] = message.offset() + 1
        counts["records"] += 1
        # The envelope contains the type, so no decoding is needed. Skip unknown types: further ones will be added.
        if message.value() is None or dict(message.headers() or []).get("ce_type") not in MOVES_MONEY:
            continue
        for entry in deserialize(message.value(), None)["entries"]:
            wallet_id = str(entry["walletId"])
            wallet = wallets.setdefault(wallet_id, Wallet(entry["currency"]))
            outcome = wallet.add(entry["sequence"], entry["balanceAfterMinor"])
            counts[outcome] += 1
            if outcome == "newer" and not options.until_end:
                show(wallet_id, wallet)
    consumer.close()

    if options.until_end:
        for wallet_id in sorted(wallets):
            show(wallet_id, wallets[wallet_id])
    missing = 0
    for wallet_id, wallet in sorted(wallets.items()):
        # Later entries may still be under way while traffic goes on; those before the end are not.
        up_to = wallet.sequence if awaited is None else awaited.get(wallet_id, 0)
        lacks = wallet.missing(up_to)
        if lacks == 0:
            continue
        missing += lacks
        print(
            f"wallet {wallet_id} lacks {lacks} of its first {up_to} entries, from {wallet.through + 1} on",
            file=sys.stderr,
        )
    print(
        f"{counts['records']} records, {len(wallets)} wallets, {counts['newer'] + counts['older']} entries, "
        f"{counts['repeat']} repeats, {missing} missing",
        file=sys.stderr,
    )
    return 1 if missing else 0


def seconds(text):
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise argparse.ArgumentTypeError("must be whole seconds, at most 9999")
    return int(text)


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        epilog="KAFKA_BROKERS, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE and REGISTRY_URL say where and as whom.",
    )
    parser.add_argument(
        "--until-end", action="store_true", help="stop at the end that the topic has now, and print each wallet once"
    )
    parser.add_argument("--topic", default="ledger.events")
    parser.add_argument(
        "--wait", type=seconds, default=10, help="seconds to wait at the end for entries that are still under way"
    )
    options = parser.parse_args()
    try:
        return read(options)
    except Exception as error:  # without a balance there is nothing to print
        print(f"could not read {options.topic}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
