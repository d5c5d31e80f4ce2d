# PgTide::Load
#		Writers that publish all the time, and know afterwards what must have arrived.
#
# Owns: the writers' procedure in the database, their psql processes, and the
# record of what they committed.  Does not own: where the events go.
#
# A writer takes the row lock of a key's counter, adds one and publishes the
# new number under that key.  So the order in which a key's events are
# committed is the order of their numbers, and numbers have no gaps: what a
# savepoint or the transaction took back, the counter took back, too.
package PgTide::Load;

use strict;
use warnings;

use PgTide::Process;
use PgTide::Test qw(wait_until make_source);

my $PROCEDURES = <<'END';
CREATE TABLE IF NOT EXISTS load_counter (outbox text, key text, n bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (outbox, key)) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS load_stop (outbox text PRIMARY KEY);

CREATE OR REPLACE FUNCTION load_publish(box text, k text, filler int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	number bigint;
BEGIN
	UPDATE load_counter c SET n = c.n + 1 WHERE c.outbox = box AND c.key = k RETURNING c.n INTO number;
	INSERT INTO published (event_id, outbox, key)
		VALUES (tide.outbox_publish(box, 'load', jsonb_build_object('n', number, 'filler', repeat('x', filler)),
									'{}', k, CASE WHEN number = 1 THEN 'insert' ELSE 'update' END), box, k);
END;
$$;

-- Publishes and goes back to before that.
CREATE OR REPLACE FUNCTION load_publish_in_vain(box text, k text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM load_publish(box, k, 0);
	RAISE EXCEPTION USING ERRCODE = 'TL001', MESSAGE = 'back to the savepoint';
EXCEPTION
	WHEN SQLSTATE 'TL001' THEN NULL;
END;
$$;

CREATE OR REPLACE PROCEDURE load_run(box text, seed float8, pause float8, keys int, filler int)
LANGUAGE plpgsql AS $$
DECLARE
	several text[];
	k text;
BEGIN
	PERFORM setseed(seed);
	WHILE NOT EXISTS (SELECT FROM load_stop s WHERE s.outbox = box)
	LOOP
		-- One to three keys, always in the same order: writers never wait for each other in a circle.
		SELECT array_agg(DISTINCT 'k' || floor(random() * keys)) INTO several
			FROM generate_series(0, floor(random() * 3)::int);
		FOREACH k IN ARRAY several
		LOOP
			IF random() < 0.2 THEN
				PERFORM load_publish_in_vain(box, k);
			END IF;
			PERFORM load_publish(box, k, filler);
		END LOOP;
		-- Now and then others overtake between publishing and the end.
		IF random() < 0.2 THEN
			PERFORM pg_sleep(random() * 0.01);
		END IF;
		IF random() < 0.15 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM pg_sleep(random() * 2 * pause);
	END LOOP;
END;
$$;
END

# node, outbox; writers (2), pause (mean seconds between a writer's transactions, 0.01),
# keys (8), filler (bytes in each payload, 0), seed (random numbers come from rand()).
sub new
{
	my ($class, %args) = @_;
	my $self = bless { writers => 2, pause => 0.01, keys => 8, filler => 0, running => [], %args }, $class;
	make_source($self->{node});
	$self->{node}->safe_psql('postgres', $PROCEDURES);
	$self->{node}->safe_psql('postgres',
		"INSERT INTO load_counter SELECT '$self->{outbox}', 'k' || k FROM generate_series(0, $self->{keys} - 1) k");
	return $self;
}

sub _start_writer
{
	my ($self, $i) = @_;
	my $seed = sprintf '%.6f', rand;
	my $name = $self->{node}->name . "-$self->{outbox}-$i";
	$self->{running}[$i] = PgTide::Process->new(
		name    => "writer-$name",
		log     => "$ENV{TIDE_DATA}/writer-$name.log",
		command => [
			'psql', '-Xq', '-d', $self->{node}->connstr('postgres'), '-c',
			"CALL load_run('$self->{outbox}', $seed, $self->{pause}, $self->{keys}, $self->{filler})"
		])->start;
	return;
}

sub start
{
	my ($self) = @_;
	$self->{node}->safe_psql('postgres', "DELETE FROM load_stop WHERE outbox = '$self->{outbox}'");
	$self->_start_writer($_) for 0 .. $self->{writers} - 1;
	return $self;
}

# Starts writers again that lost their server.
sub tend
{
	my ($self) = @_;
	for my $i (0 .. $#{ $self->{running} })
	{
		$self->_start_writer($i) unless $self->{running}[$i]->alive;
	}
	return;
}

# Lets the writers finish their transactions.
sub stop
{
	my ($self) = @_;
	$self->{node}->safe_psql('postgres', "INSERT INTO load_stop VALUES ('$self->{outbox}')");
	for my $writer (@{ $self->{running} })
	{
		my $status = $writer->wait_end(30);
		die "$writer->{name} does not end" unless defined $status;
		die "$writer->{name} failed: " . $writer->log_text if $status;
	}
	$self->{running} = [];
	return;
}

sub count
{
	my ($self) = @_;
	return $self->{node}->safe_psql('postgres',
		"SELECT count(*) FROM published WHERE outbox = '$self->{outbox}'");
}

# Waits until so many more events are committed.  Dies if they don't come: the test itself is broken then.
sub wait_for
{
	my ($self, $more, $limit) = @_;
	my $wanted = $self->count + $more;
	defined wait_until(sub { $self->tend; $self->count >= $wanted }, $limit // 60, "$more more events")
	  or die "the writers of $self->{outbox} don't publish\n";
	return;
}

# Keys whose events in that inbox are not numbered 1, 2, 3 ... in order of arrival.
sub wrong_keys
{
	my ($self, $node, $inbox) = @_;
	my $from = $self->{node}->safe_psql('postgres',
		"SELECT string_agg(key || '=' || n, ' ' ORDER BY key) FROM load_counter WHERE outbox = '$self->{outbox}' AND n > 0");
	my $to = $node->safe_psql('postgres', <<~"END");
		SELECT string_agg(key || '=' || CASE WHEN wrong = 0 THEN n::text ELSE wrong || ' out of order' END, ' ' ORDER BY key)
		FROM (SELECT key, max(n) AS n, count(*) FILTER (WHERE n <> arrival) AS wrong
			FROM (SELECT key, (payload->>'n')::bigint AS n, row_number() OVER (PARTITION BY key ORDER BY seq) AS arrival
				FROM tide."${inbox}_inbox" WHERE outbox = '$self->{outbox}') events
			GROUP BY key) keys
		END
	return '' if $from eq $to;
	return "committed $from; arrived $to";
}

1;
