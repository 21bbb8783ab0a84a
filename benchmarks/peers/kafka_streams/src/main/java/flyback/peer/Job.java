package flyback.peer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;

/** What job.json says: see benchmarks/job.py. */
record Job(Path folder, JsonNode told) {

    static Job read(Path folder) throws IOException {
        return new Job(folder, new ObjectMapper().readTree(folder.resolve("job.json").toFile()));
    }

    String bootstrap() {
        return told.get("bootstrap").asText();
    }

    String group() {
        return told.get("group").asText();
    }

    long events() {
        return told.get("events").asLong();
    }

    String topic(String record) {
        return told.get("topics").get(record).asText();
    }

    /** The raw record that a topic holds. */
    String recordIn(String topic) {
        return Event.RECORDS.stream().filter(record -> topic(record).equals(topic)).findFirst().orElseThrow();
    }

    JsonNode schema(String record) {
        return told.get("schemas").get(record);
    }
}
