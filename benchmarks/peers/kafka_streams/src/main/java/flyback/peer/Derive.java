package flyback.peer;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;

/** The derived event of one pair, as join.py has it, for predictions by models. */
final class Derive {
    private static final String[] FROM_PREDICTION = {
        "task_id", "prediction_id", "actor", "input", "context", "output", "confidence", "segment", "attributes",
        "occurred_at",
    };
    private static final String[] FROM_CORRECTION = {
        "author", "sampling_probability", "correction_id", "verdict", "authority", "reason", "error_category",
    };
    private static final String[] FROM_GRADE = {
        "author", "sampling_probability", "grade_id", "rubric", "rubric_version", "scores", "passed", "rationale",
    };

    /** The Avro record's name, and the value to write. */
    record Derived(String record, byte[] value) {}

    private final Job job;
    private final Codec codec;

    Derive(Job job, Codec codec) {
        this.job = job;
        this.codec = codec;
    }

    Derived derive(Event prediction, Event feedback) {
        boolean correction = feedback.record().equals("Correction");
        String record = correction ? "Example" : "GradedExample";
        GenericRecord p = prediction.content(codec);
        GenericRecord f = feedback.content(codec);
        GenericRecord derived = new GenericData.Record(codec.schema(record));
        for (String name : FROM_PREDICTION) {
            derived.put(name, p.get(name));
        }
        for (String name : correction ? FROM_CORRECTION : FROM_GRADE) {
            derived.put(name, f.get(name));
        }
        if (correction) {
            derived.put("example_id", id(feedback));
            derived.put("truth", switch (f.get("verdict").toString()) {
                case "CONFIRMED" -> p.get("output");
                case "CORRECTED" -> f.get("output");
                default -> null;
            });
        } else {
            derived.put("graded_example_id", id(feedback));
        }
        derived.put("feedback_attributes", f.get("attributes"));
        derived.put("feedback_occurred_at", f.get("occurred_at"));
        derived.put("prediction_source", source(derived.getSchema(), prediction));
        derived.put("feedback_source", source(derived.getSchema(), feedback));
        derived.put("derive_version", 1);
        return new Derived(record, codec.encode(record, derived));
    }

    private GenericRecord source(Schema derived, Event event) {
        GenericRecord source = new GenericData.Record(derived.getField("prediction_source").schema());
        source.put("topic", job.topic(event.record()));
        source.put("partition", event.partition);
        source.put("offset", event.offset);
        source.put("arrived_at", event.arrivedAt * 1000);
        return source;
    }

    private String id(Event feedback) {
        GenericRecord f = feedback.content(codec);
        String identity = String.format(
                "[\"%s\",\"%s\",\"%s\",\"%s\"]",
                feedback.record(), f.get("task_id"), f.get("prediction_id"), feedback.feedbackId(codec));
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(identity.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest, 0, 16);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
