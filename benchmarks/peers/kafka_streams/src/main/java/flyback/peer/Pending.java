package flyback.peer;

import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** One processor: predictions by episode, feedback that was seen, and feedback that waits for its prediction. */
final class Pending {
    private static final String NAME = "join";
    private static final byte[] SEEN = {1};

    private final Job job;
    private final Runnable taken;

    Pending(Job job, Runnable taken) {
        this.job = job;
        this.taken = taken;
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    Topology topology() {
        Topology topology = new Topology();
        for (String record : Event.RECORDS) {
            topology.addSource(
                    record, Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), job.topic(record));
        }
        topology.addProcessor(NAME, Joining::new, Event.RECORDS.toArray(String[]::new));
        topology.addStateStore(store("predictions", Event.serde()), NAME);
        topology.addStateStore(store("seen", Serdes.ByteArray()), NAME);
        topology.addStateStore(store("waiting", Serdes.ListSerde((Class) ArrayList.class, Event.serde())), NAME);
        for (String record : List.of("Example", "GradedExample")) {
            topology.addSink(
                    record, job.topic(record), Serdes.String().serializer(), Serdes.ByteArray().serializer(), NAME);
        }
        return topology;
    }

    private static <V> StoreBuilder<KeyValueStore<String, V>> store(
            String name, Serde<V> values) {
        return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), values);
    }

    private final class Joining extends ContextualProcessor<String, byte[], String, byte[]> {
        private final Codec codec = new Codec(job);
        private final Derive derive = new Derive(job, codec);
        private KeyValueStore<String, Event> predictions;
        private KeyValueStore<String, byte[]> seen;
        private KeyValueStore<String, List<Event>> waiting;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            super.init(context);
            predictions = context.getStateStore("predictions");
            seen = context.getStateStore("seen");
            waiting = context.getStateStore("waiting");
        }

        @Override
        public void process(Record<String, byte[]> message) {
            RecordMetadata place = context().recordMetadata().orElseThrow();
            Event event = Event.of(job.recordIn(place.topic()), place, message.timestamp(), message.value());
            if (event.isPrediction()) {
                prediction(event, message);
            } else {
                feedback(event, message);
            }
            taken.run();
        }

        private void prediction(Event prediction, Record<String, byte[]> message) {
            String episode = prediction.episode(codec);
            if (predictions.putIfAbsent(episode, prediction) != null) {
                return;
            }
            List<Event> waited = waiting.get(episode);
            if (waited != null) {
                waiting.delete(episode);
                waited.forEach(feedback -> write(prediction, feedback, message));
            }
        }

        private void feedback(Event feedback, Record<String, byte[]> message) {
            String episode = feedback.episode(codec);
            if (seen.putIfAbsent(episode + "/" + feedback.kind + "/" + feedback.feedbackId(codec), SEEN) != null) {
                return;
            }
            Event prediction = predictions.get(episode);
            if (prediction != null) {
                write(prediction, feedback, message);
                return;
            }
            List<Event> waited = waiting.get(episode);
            waited = waited == null ? new ArrayList<>() : waited;
            waited.add(feedback);
            waiting.put(episode, waited);
        }

        private void write(Event prediction, Event feedback, Record<String, byte[]> message) {
            Derive.Derived derived = derive.derive(prediction, feedback);
            context().forward(message.withValue(derived.value()), derived.record());
        }
    }
}
