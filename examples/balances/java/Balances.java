// Keeps every wallet's balance from the events alone, and checks that no entry is missing. It has no code of Pennywire:
//   mvn dependency:copy-dependencies -DoutputDirectory=lib && java -cp 'lib/*' Balances.java --until-end
// It prints JSON lines and ends with 0, with 1 if entries are missing, with 2 if it could not read. Java 17 or newer.
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Balances {
    /** The two events that contain entries: a hold moves nothing until it is captured. */
    private static final Set<String> MOVES_MONEY =
            Set.of("pennywire.ledger.TransferCompleted", "pennywire.ledger.TransferReversed");
    private static final Duration POLL = Duration.ofMillis(500);
    private static final Duration ANSWER = Duration.ofSeconds(30);
    private static final String USAGE = """
            usage: java -cp 'lib/*' Balances.java [--until-end] [--topic NAME] [--wait SECONDS]
              --until-end  stop at the end that the topic has now, and print each wallet once
              --topic      ledger.events
              --wait       how long to wait at the end for entries that are still under way (10)
            KAFKA_BROKERS, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE and REGISTRY_URL say where and as whom.""";

    static class Wallet {
        String currency;
        long balance;
        /** Of the entry with the balance. */
        long sequence;
        /** Every sequence from 1 to this one was seen. */
        long through;
        /** Seen beyond `through`: entries that a wallet receives may overtake each other. */
        final Set<Long> ahead = new HashSet<>();

        boolean hasSeen(long sequence) {
            return sequence <= through || ahead.contains(sequence);
        }

        /** Returns whether the entry is the newest. */
        boolean add(long sequence, long balance) {
            ahead.add(sequence);
            while (ahead.remove(through + 1)) through++;
            // The greater sequence wins.
            if (sequence <= this.sequence) return false;
            this.sequence = sequence;
            this.balance = balance;
            return true;
        }

        /** How many entries up to this sequence were not seen. */
        long missing(long upTo) {
            return Math.max(0, upTo - through) - ahead.stream().filter(sequence -> sequence <= upTo).count();
        }
    }

    /** Avro in the registry's wire format: a zero byte, the schema's id in 4 bytes, the record. */
    static class Registry {
        private final String url;
        private final HttpClient http = HttpClient.newBuilder().connectTimeout(ANSWER).build();
        private final ObjectMapper json = new ObjectMapper();
        private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();

        Registry(String url) {
            this.url = url;
        }

        GenericRecord decode(byte[] bytes) throws IOException, InterruptedException {
            if (bytes.length <= 5 || bytes[0] != 0) throw new IOException("a record is not in the registry's wire format");
            int id = ByteBuffer.wrap(bytes, 1, 4).getInt();
            GenericDatumReader<GenericRecord> reader = readers.get(id);
            if (reader == null) {
                // Each record is read as it was written: no field is unknown.
                reader = new GenericDatumReader<>(new Schema.Parser().parse(schemaOf(id)));
                readers.put(id, reader);
            }
            return reader.read(null, DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, null));
        }

        private String schemaOf(int id) throws IOException, InterruptedException {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url + "/schemas/ids/" + id)).timeout(ANSWER).build();
            HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200)
                throw new IOException("the registry answers " + answer.statusCode() + " for schema " + id);
            return json.readTree(answer.body()).get("schema").asText();
        }
    }

    static class UsageError extends Exception {
        UsageError(String reason) {
            super(reason);
        }
    }

    private boolean untilEnd = false;
    private String topic = "ledger.events";
    private Duration wait = Duration.ofSeconds(10);
    private final Map<String, Wallet> wallets = new TreeMap<>();
    private long records, entries, repeats;
    /** Of the wallets that lack entries at the end: the sequence up to which these must still come. */
    private Map<String, Long> awaited;

    private static String setting(String name, String usual) {
        String value = System.getenv(name);
        return value == null ? usual : value;
    }

    Balances(String[] arguments) throws UsageError {
        for (int index = 0; index < arguments.length; index++) {
            String option = arguments[index];
            if (option.equals("--until-end")) {
                untilEnd = true;
                continue;
            }
            if (!option.equals("--topic") && !option.equals("--wait")) throw new UsageError("unknown option " + option);
            if (++index == arguments.length) throw new UsageError(option + " needs a value");
            if (option.equals("--topic")) topic = arguments[index];
            else if (arguments[index].matches("[0-9]{1,4}")) wait = Duration.ofSeconds(Long.parseLong(arguments[index]));
            else throw new UsageError("--wait must be whole seconds, at most 9999");
        }
    }

    private static KafkaConsumer<byte[], byte[]> connect() throws IOException {
        Properties config = new Properties();
        config.put("bootstrap.servers", setting("KAFKA_BROKERS", "127.0.0.1:19092"));
        config.put("enable.auto.commit", "false");
        config.put("default.api.timeout.ms", String.valueOf(ANSWER.toMillis()));
        String passwordFile = System.getenv("KAFKA_SASL_PASSWORD_FILE");
        if (passwordFile != null) {
            config.put("security.protocol", "SASL_PLAINTEXT");
            config.put("sasl.mechanism", "PLAIN");
            config.put(
                    "sasl.jaas.config",
                    "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"%s\" password=\"%s\";"
                            .formatted(
                                    setting("KAFKA_SASL_USERNAME", "downstream"),
                                    Files.readString(Path.of(passwordFile)).trim()));
        }
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void print(String id, Wallet wallet) {
        System.out.printf(
                "{\"walletId\":\"%s\",\"currency\":\"%s\",\"balance\":\"%d\",\"sequence\":%d}\n",
                id, wallet.currency, wallet.balance, wallet.sequence);
    }

    private void apply(ConsumerRecord<byte[], byte[]> message, Registry registry)
            throws IOException, InterruptedException {
        records++;
        // The envelope contains the type, so no decoding is needed. Skip unknown types: further ones will be added.
        Header type = message.headers().lastHeader("ce_type");
        if (message.value() == null || type == null) return;
        if (!MOVES_MONEY.contains(new String(type.value(), StandardCharsets.UTF_8))) return;
        for (Object one : (List<?>) registry.decode(message.value()).get("entries")) {
            GenericRecord entry = (GenericRecord) one;
            String id = entry.get("walletId").toString();
            Wallet wallet = wallets.computeIfAbsent(id, unknown -> new Wallet());
            long sequence = (Long) entry.get("sequence");
            if (wallet.hasSeen(sequence)) {
                repeats++;
                continue;
            }
            entries++;
            wallet.currency = entry.get("currency").toString();
            if (wallet.add(sequence, (Long) entry.get("balanceAfterMinor")) && !untilEnd) print(id, wallet);
        }
    }

    /** Reads until the end, or until the process is told to stop. */
    private void read(KafkaConsumer<byte[], byte[]> consumer) throws IOException, InterruptedException {
        Registry registry = new Registry(setting("REGISTRY_URL", "http://127.0.0.1:18081/apis/ccompat/v7"));
        List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(partition -> new TopicPartition(topic, partition.partition()))
                .toList();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        long deadline = Long.MAX_VALUE;
        while (true) {
            if (untilEnd && partitions.stream().allMatch(one -> consumer.position(one) >= ends.get(one))) {
                if (awaited == null) {
                    // The partitions were not cut at one moment: an entry may be there while one before it is under way.
                    awaited = new HashMap<>();
                    wallets.forEach((id, wallet) -> {
                        if (wallet.missing(wallet.sequence) > 0) awaited.put(id, wallet.sequence);
                    });
                    deadline = System.nanoTime() + wait.toNanos();
                }
                boolean complete =
                        awaited.entrySet().stream().allMatch(one -> wallets.get(one.getKey()).missing(one.getValue()) == 0);
                if (complete || System.nanoTime() >= deadline) return;
            }
            for (ConsumerRecord<byte[], byte[]> message : consumer.poll(POLL)) apply(message, registry);
        }
    }

    /** Prints what was read; returns the exit code. */
    private int report() {
        if (untilEnd) wallets.forEach(Balances::print);
        long missing = 0;
        for (Map.Entry<String, Wallet> one : wallets.entrySet()) {
            Wallet wallet = one.getValue();
            // Later entries may still be under way while traffic goes on; those before the end are not.
            long upTo = awaited == null ? wallet.sequence : awaited.getOrDefault(one.getKey(), 0L);
            long lacks = wallet.missing(upTo);
            if (lacks == 0) continue;
            missing += lacks;
            System.err.printf(
                    "wallet %s lacks %d of its first %d entries, from %d on\n",
                    one.getKey(), lacks, upTo, wallet.through + 1);
        }
        System.err.printf(
                "%d records, %d wallets, %d entries, %d repeats, %d missing\n",
                records, wallets.size(), entries, repeats, missing);
        return missing == 0 ? 0 : 1;
    }

    private int run() {
        try (KafkaConsumer<byte[], byte[]> consumer = connect()) {
            int[] code = {2};
            CountDownLatch done = new CountDownLatch(1);
            // A signal would end the process with a code of its own and without a report.
            Thread onSignal = new Thread(() -> {
                consumer.wakeup();
                try {
                    if (!done.await(ANSWER.toMillis(), TimeUnit.MILLISECONDS)) return;
                    System.out.flush();
                    Runtime.getRuntime().halt(code[0]);
                } catch (InterruptedException stopped) {
                    Thread.currentThread().interrupt();
                }
            });
            Runtime.getRuntime().addShutdownHook(onSignal);
            try {
                read(consumer);
            } catch (WakeupException stopped) {
                code[0] = report();
                done.countDown();
                return code[0];
            }
            Runtime.getRuntime().removeShutdownHook(onSignal);
            return report();
        } catch (Exception error) {
            System.err.println("could not read " + topic + ": " + error.getMessage());
            return 2;
        }
    }

    public static void main(String[] arguments) {
        try {
            if (List.of(arguments).contains("--help")) {
                System.out.println(USAGE);
                return;
            }
            int code = new Balances(arguments).run();
            System.out.flush();
            Runtime.getRuntime().halt(code);
        } catch (UsageError error) {
            System.err.println(error.getMessage() + "\n" + USAGE);
            System.exit(2);
        }
    }
}
