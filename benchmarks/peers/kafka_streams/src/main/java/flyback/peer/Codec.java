package flyback.peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** Avro in Confluent's wire format. One for each thread: it keeps its buffers. */
final class Codec {
    private static final int HEADER = 5;

    private final Map<Integer, GenericDatumReader<GenericRecord>> readers = new HashMap<>();
    private final Map<String, Integer> ids = new HashMap<>();
    private final Map<String, Schema> schemas = new HashMap<>();
    private final Map<String, GenericDatumWriter<GenericRecord>> writers = new HashMap<>();
    private final ByteArrayOutputStream out = new ByteArrayOutputStream(4096);
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    Codec(Job job) {
        for (String record : Event.RECORDS) {
            add(job, record);
        }
        add(job, "Example");
        add(job, "GradedExample");
    }

    private void add(Job job, String record) {
        Schema schema = new Schema.Parser().parse(job.schema(record).get("schema").toString());
        int id = job.schema(record).get("id").asInt();
        schemas.put(record, schema);
        ids.put(record, id);
        readers.put(id, new GenericDatumReader<>(schema));
        writers.put(record, new GenericDatumWriter<>(schema));
    }

    Schema schema(String record) {
        return schemas.get(record);
    }

    GenericRecord decode(byte[] value) {
        ByteBuffer header = ByteBuffer.wrap(value);
        if (header.get() != 0) {
            throw new IllegalArgumentException("not Confluent's wire format");
        }
        GenericDatumReader<GenericRecord> reader = readers.get(header.getInt());
        decoder = DecoderFactory.get().binaryDecoder(value, HEADER, value.length - HEADER, decoder);
        try {
            return reader.read(null, decoder);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    byte[] encode(String record, GenericRecord event) {
        out.reset();
        out.write(0);
        out.writeBytes(ByteBuffer.allocate(4).putInt(ids.get(record)).array());
        encoder = EncoderFactory.get().binaryEncoder(out, encoder);
        try {
            writers.get(record).write(event, encoder);
            encoder.flush();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return out.toByteArray();
    }
}
