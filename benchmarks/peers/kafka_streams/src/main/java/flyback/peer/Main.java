package flyback.peer;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** Runs one of the two topologies over a job until it has taken all events, then commits and ends. */
public final class Main {
    /** Arguments: dsl or processor, and the folder with job.json. */
    public static void main(String[] arguments) throws Exception {
        Job job = Job.read(Path.of(arguments[1]));
        CountDownLatch ended = new CountDownLatch(1);
        AtomicBoolean failed = new AtomicBoolean();
        AtomicLong left = new AtomicLong(job.events());
        Runnable taken = () -> {
            if (left.decrementAndGet() == 0) {
                ended.countDown();
            }
        };
        Topology topology = switch (arguments[0]) {
            case "dsl" -> new Dsl(job, taken).topology();
            case "processor" -> new Pending(job, taken).topology();
            default -> throw new IllegalArgumentException("dsl or processor, not " + arguments[0]);
        };
        KafkaStreams streams = new KafkaStreams(topology, configuration(job));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            failed.set(true);
            ended.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        ended.await();
        boolean closed = streams.close(Duration.ofMinutes(1));
        System.exit(closed && !failed.get() ? 0 : 1);
    }

    private static Properties configuration(Job job) {
        Properties configuration = new Properties();
        configuration.put(StreamsConfig.APPLICATION_ID_CONFIG, job.group());
        configuration.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.bootstrap());
        configuration.put(StreamsConfig.STATE_DIR_CONFIG, job.folder().resolve("state").toString());
        configuration.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        configuration.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        configuration.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return configuration;
    }
}
