package flyback.peer;

import java.time.Duration;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/**
 * A stream-stream join by task over 30 days: the DSL's own way to join in either order.
 *
 * <p>A later copy of an event joins again, so its pair is written more than once, with the same id.
 */
final class Dsl {
    private record Pair(Event prediction, Event feedback) {}

    private final Job job;
    private final Runnable taken;

    Dsl(Job job, Runnable taken) {
        this.job = job;
        this.taken = taken;
    }

    Topology topology() {
        StreamsBuilder builder = new StreamsBuilder();
        Serde<Derive.Derived> written = Serdes.serdeFrom((topic, derived) -> derived.value(), (topic, bytes) -> null);
        JoinWindows window = JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofDays(30));
        StreamJoined<String, Event, Event> stored = StreamJoined.with(Serdes.String(), Event.serde(), Event.serde());
        events(builder, "Prediction")
                .join(events(builder, "Correction").merge(events(builder, "Grade")), Pair::new, window, stored)
                .processValues(Deriving::new)
                .to((task, derived, context) -> job.topic(derived.record()), Produced.with(Serdes.String(), written));
        return builder.build();
    }

    private KStream<String, Event> events(StreamsBuilder builder, String record) {
        return builder.stream(job.topic(record), Consumed.with(Serdes.String(), Serdes.ByteArray()))
                .processValues(() -> new Taking(record));
    }

    /** Decodes, so that what is no event is noticed, and adds where the event stands. */
    private final class Taking extends ContextualFixedKeyProcessor<String, byte[], Event> {
        private final Codec codec = new Codec(job);
        private final String record;

        Taking(String record) {
            this.record = record;
        }

        @Override
        public void process(FixedKeyRecord<String, byte[]> message) {
            Event event =
                    Event.of(record, context().recordMetadata().orElseThrow(), message.timestamp(), message.value());
            event.content(codec);
            context().forward(message.withValue(event));
            taken.run();
        }
    }

    private final class Deriving extends ContextualFixedKeyProcessor<String, Pair, Derive.Derived> {
        private final Codec codec = new Codec(job);
        private final Derive derive = new Derive(job, codec);

        @Override
        public void process(FixedKeyRecord<String, Pair> joined) {
            Pair pair = joined.value();
            if (pair.prediction().episode(codec).equals(pair.feedback().episode(codec))) {
                context().forward(joined.withValue(derive.derive(pair.prediction(), pair.feedback())));
            }
        }
    }
}
