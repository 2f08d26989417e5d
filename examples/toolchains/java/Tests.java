import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class Tests {
    @Test
    public void sum() {
        assertEquals(3, 1 + 2);
    }

    @Test
    public void product() {
        assertEquals(6, 2 * 3);
    }
}
