package flyback.peer;

import java.nio.ByteBuffer;
import java.util.List;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/** A raw event: its bytes and where they stand. Stores keep just that; what is in it is decoded when asked for. */
final class Event {
    static final List<String> RECORDS = List.of("Prediction", "Correction", "Grade");
    private static final int PLACE = 1 + 4 + 8 + 8;

    final byte kind;
    final int partition;
    final long offset;
    final long arrivedAt;
    final byte[] value;
    private GenericRecord content;

    Event(int kind, int partition, long offset, long arrivedAt, byte[] value) {
        this.kind = (byte) kind;
        this.partition = partition;
        this.offset = offset;
        this.arrivedAt = arrivedAt;
        this.value = value;
    }

    static Event of(String record, RecordMetadata place, long arrivedAt, byte[] value) {
        return new Event(RECORDS.indexOf(record), place.partition(), place.offset(), arrivedAt, value);
    }

    String record() {
        return RECORDS.get(kind);
    }

    boolean isPrediction() {
        return kind == 0;
    }

    GenericRecord content(Codec codec) {
        if (content == null) {
            content = codec.decode(value);
        }
        return content;
    }

    /** Of the prediction that it is, or is about. */
    String episode(Codec codec) {
        return content(codec).get("task_id") + "/" + content(codec).get("prediction_id");
    }

    String feedbackId(Codec codec) {
        return content(codec).get(record().equals("Correction") ? "correction_id" : "grade_id").toString();
    }

    static Serde<Event> serde() {
        return Serdes.serdeFrom((topic, event) -> event == null ? null : event.bytes(), (topic, bytes) -> from(bytes));
    }

    private byte[] bytes() {
        ByteBuffer bytes = ByteBuffer.allocate(PLACE + value.length);
        return bytes.put(kind).putInt(partition).putLong(offset).putLong(arrivedAt).put(value).array();
    }

    private static Event from(byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        ByteBuffer in = ByteBuffer.wrap(bytes);
        int kind = in.get();
        int partition = in.getInt();
        long offset = in.getLong();
        long arrivedAt = in.getLong();
        byte[] value = new byte[in.remaining()];
        in.get(value);
        return new Event(kind, partition, offset, arrivedAt, value);
    }
}
